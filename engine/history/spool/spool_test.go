package spool

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"
)

func add(t testing.TB, s *Spool, size int) (uint64, int) {
	t.Helper()
	seq, dropped, err := s.Append(10, func(seq uint64) []byte {
		return append(fmt.Appendf(nil, "%d ", seq), bytes.Repeat([]byte{'x'}, size)...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return seq, dropped
}

func open(t testing.TB, dir string, limit int64) *Spool {
	t.Helper()
	s, err := Open(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// take takes out all and returns the numbers.
func take(t testing.TB, s *Spool) (seqs []uint64) {
	t.Helper()
	for {
		b, lost, ok := s.Oldest()
		if lost > 0 {
			t.Errorf("%d rows lost", lost)
		}
		if !ok {
			return seqs
		}
		if !bytes.HasPrefix(b.Data, fmt.Appendf(nil, "%d ", b.Seq)) {
			t.Fatalf("batch %d has another's content", b.Seq)
		}
		seqs = append(seqs, b.Seq)
		s.Done(b.Seq)
	}
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestWhatWaitsSurvivesTheProcessAndNumbersNeverComeTwice(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "s")
		if err != nil {
			rt.Fatal(err)
		}
		const limit = 8 << 20 // more than comes, in segments of a megabyte
		s := open(t, dir, limit)
		var want []uint64
		next := uint64(1)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0, 1:
				seq, _ := add(t, s, rapid.IntRange(0, 100_000).Draw(rt, "size"))
				if seq != next {
					rt.Fatalf("number %d, want %d", seq, next)
				}
				next++
				want = append(want, seq)
			case 2:
				if b, _, ok := s.Oldest(); ok {
					if b.Seq != want[0] {
						rt.Fatalf("%d is first, want %d", b.Seq, want[0])
					}
					s.Done(b.Seq)
					want = want[1:]
				}
			case 3: // killed: nothing is closed
				again := open(t, dir, limit)
				// Done batches of a segment in use come again, before the others; the store knows them by their numbers.
				for len(again.queue) > len(want) {
					again.Done(again.queue[0].seq)
				}
				s = again
			}
			if n, rows, _ := s.Waiting(); n != int64(len(want)) || rows != int64(10*len(want)) {
				rt.Fatalf("%d batches of %d rows wait, want %d", n, rows, len(want))
			}
		}
		if got := take(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
			rt.Fatalf("%v came, want %v", got, want)
		}
		s.Close()
		if n := files(t, dir); len(n) != 1 {
			rt.Fatalf("files left: %v", n)
		}
	})
}

func TestATornLastBatchIsLostAloneAndItsNumberIsUsedAgain(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	for range 3 {
		add(t, s, 1000)
	}
	name := files(t, dir)[0]
	info, _ := os.Stat(name)
	for _, cut := range []int64{1, 500, 1010} {
		if err := os.Truncate(name, info.Size()-cut); err != nil {
			t.Fatal(err)
		}
		s := open(t, t.TempDir(), 1<<30)
		s.dir = dir
		s.next = 1
		if err := s.scan(s.next); err != nil || len(s.queue) != 2 || s.next != 3 {
			t.Errorf("cut by %d: %v, %d batches, next %d", cut, err, len(s.queue), s.next)
		}
	}
}

func TestADamagedBatchIsLeftOutAndCounted(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	for range 3 {
		add(t, s, 3<<20) // beyond what is kept in memory
	}
	f, err := os.OpenFile(files(t, dir)[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteAt([]byte("!"), 1000)
	f.Close()
	b, lost, ok := s.Oldest()
	if !ok || b.Seq != 2 || lost != 10 {
		t.Errorf("batch %d, %d rows lost, %v", b.Seq, lost, ok)
	}
}

func TestABatchThatIsDamagedBeforeTheStartCostsNoOtherAndIsTold(t *testing.T) {
	for _, at := range []int64{100, 1100} { // in the first, in the second
		dir := t.TempDir()
		s := open(t, dir, 1<<30)
		for range 3 {
			add(t, s, 998) // of 1,020 bytes in the file
		}
		f, err := os.OpenFile(files(t, dir)[0], os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.WriteAt([]byte("!"), at)
		f.Close()
		s = open(t, dir, 1<<30)
		damaged := s.Damaged()
		if n, _, _ := s.Waiting(); n != 2 || damaged != 1020 {
			t.Errorf("damaged at byte %d: %d batches wait, %d bytes are damaged", at, n, damaged)
		}
		if seq, _ := add(t, s, 998); seq != 4 {
			t.Errorf("the next one has number %d", seq)
		}
	}
}

func TestPastTheBoundTheOldestGoAndTheOneBeingSentStays(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20)
	add(t, s, 100_000)
	first, _, _ := s.Oldest()
	dropped := 0
	for range 100 {
		_, d := add(t, s, 100_000)
		dropped += d
		size := int64(0)
		for _, name := range files(t, dir) {
			info, _ := os.Stat(name)
			size += info.Size()
		}
		// The segment of the batch being sent, and one in progress, may be there beside what waits.
		if size > 1<<20+2*s.segment+200_000 {
			t.Fatalf("%d bytes on disk", size)
		}
	}
	n, rows, _ := s.Waiting()
	if rows+int64(dropped) != 1010 || n < 9 || n > 11 {
		t.Errorf("%d batches wait, %d rows of them, %d dropped", n, rows, dropped)
	}
	if b, _, _ := s.Oldest(); b.Seq != first.Seq {
		t.Errorf("batch %d was taken away while it was sent; %d is first", first.Seq, b.Seq)
	}
	s.Done(first.Seq)
	if got := take(t, s); got[len(got)-1] != 101 || len(got) != int(n)-1 {
		t.Errorf("left were %v", got)
	}
}

func TestWithoutADiskBatchesWaitInMemory(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	_ = s.head.Close() // every write fails from now on
	var dropped int
	for range 30 {
		_, d, err := s.Append(1, func(uint64) []byte { return make([]byte, 1<<20) })
		if err == nil {
			t.Fatal("a write to a closed file works")
		}
		dropped += d
	}
	n, _, size := s.Waiting()
	if !s.InMemory() || size > memoryBytes+2<<20 || int(n)+dropped != 30 || dropped == 0 {
		t.Errorf("%d batches of %d bytes wait, %d dropped", n, size, dropped)
	}
	m := Memory()
	add(t, m, 10)
	if got := take(t, m); len(got) != 1 || !m.InMemory() {
		t.Errorf("%v", got)
	}
}

// full makes the disk take nothing until what it returns is called.
func full(t *testing.T, s *Spool) (works func()) {
	t.Helper()
	disk := s.head
	f, err := os.Open(disk.Name()) // for reading only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	s.head = f
	return func() { s.head = disk }
}

// refused adds a batch that the disk does not take.
func refused(t *testing.T, s *Spool) {
	t.Helper()
	if _, _, err := s.Append(10, func(seq uint64) []byte { return fmt.Appendf(nil, "%d ", seq) }); err == nil {
		t.Fatal("a disk that takes nothing took a batch")
	}
}

func TestWhatTheDiskDidNotTakeIsWrittenWhenItTakesTheNext(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	add(t, s, 1000)
	works := full(t, s)
	refused(t, s)
	refused(t, s)
	works()
	add(t, s, 1000)
	if s.InMemory() {
		t.Error("the last one is said to be in memory only")
	}
	if got := take(t, open(t, dir, 1<<30)); fmt.Sprint(got) != "[1 2 3 4]" { // as after a kill
		t.Errorf("%v are on the disk", got)
	}
}

func TestWhatIsInMemoryIsWrittenAtTheEndOrCountedAsLost(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<30)
	works := full(t, s)
	refused(t, s)
	works()
	if lost := s.Close(); lost != 0 {
		t.Errorf("%d rows lost on a disk that works again", lost)
	}
	s = open(t, dir, 1<<30)
	full(t, s)
	refused(t, s)
	if lost := s.Close(); lost != 10 {
		t.Errorf("%d rows lost, want 10", lost)
	}
	if got := take(t, open(t, dir, 1<<30)); fmt.Sprint(got) != "[1]" {
		t.Errorf("%v are on the disk", got)
	}
}
