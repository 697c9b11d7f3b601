package policy

import "testing"

func TestRoundRobinGivesEachItsTurnWhateverItHolds(t *testing.T) {
	b := build(peers(t, "[{count: 3}]"), newRoundRobin)
	a := attempt(0, 9, 0, 0)
	first := b.Pick(a)
	for i := range int32(30) {
		if got, want := b.Pick(a), (first+1+i)%3; got != want {
			t.Fatalf("turn %d went to %d, want %d", i, got, want)
		}
	}
}

func TestRoundRobinGoesOnWithTheOthersWhenOneLeaves(t *testing.T) {
	b := &roundRobin{last: 0}
	a := attempt(0, 0, 0, 0)
	a.Present = []int32{0, 2}
	if x, y, z := b.Pick(a), b.Pick(a), b.Pick(a); x != 2 || y != 0 || z != 2 {
		t.Errorf("picked %d %d %d", x, y, z)
	}
	a.Present, a.Tried = []int32{0, 1, 2}, []int32{0}
	if x := b.Pick(a); x != 1 {
		t.Errorf("a retry after 0 went to %d", x)
	}
}
