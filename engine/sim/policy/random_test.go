package policy

import "testing"

func TestRandomIsUniformWhateverThePeersHold(t *testing.T) {
	b := build(peers(t, "[{count: 4}]"), newRandom)
	for p, share := range shares(b, attempt(0, 50, 0, 3, 0), 40_000) {
		if share < 0.24 || share > 0.26 {
			t.Errorf("peer %d got %v", p, share)
		}
	}
	a := attempt(0, 0, 0, 0, 0)
	a.Tried = []int32{1, 2}
	if got := shares(b, a, 10_000); got[1]+got[2] != 0 || got[0] < 0.45 || got[3] < 0.45 {
		t.Errorf("a retry went to %v", got)
	}
}
