// Package spool is a bounded queue of batches on disk, first in first out, each with a number that comes once in a run of the engine.
//
// Every batch of history goes through it before it goes to the store. So there is one way and not two, a store that is down
// for hours costs nothing but disk, and what the operating system has been given outlives the engine (kill -9; a power cut may
// take the last seconds, since nothing is synced). The number makes a batch that was sent twice, because nobody knows whether
// the first time arrived, one batch in the store.
//
// Files are segments named by the number of their first batch; a segment is removed when all in it is done. The last one always
// stays: its name is where numbering goes on. Without a folder, or while the disk is full, batches are kept in memory, fewer.
package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
)

const (
	frameHeader = 20 // length u32, CRC-32C u32 of what follows it, number u64, rows u32
	maxFrame    = 64 << 20
	// cacheBytes of the newest batches are kept in memory too, so that a store that keeps up never costs a read.
	cacheBytes = 1 << 20
	// memoryBytes may be waiting that are on no disk.
	memoryBytes = 16 << 20
	suffix      = ".spool"
)

// Batch is one entry.
type Batch struct {
	Seq  uint64
	Rows int
	Data []byte
}

// Spool is the queue. Safe for concurrent use.
type Spool struct {
	dir      string // "" = memory only
	max      int64
	segment  int64 // size from which a new one begins
	damaged  int64 // bytes that Open could not read
	waiting  atomic.Int64
	bytes    atomic.Int64
	rows     atomic.Int64
	onMemory atomic.Bool // batches wait, or the last one did, that are on no disk

	mu      sync.Mutex // guards what follows, and the files
	next    uint64
	queue   []entry
	used    map[uint64]int // batches that wait, by segment
	head    *os.File       // segment written to; nil = none yet or broken
	headAt  uint64         // its name
	headEnd int64
	cached  int64
	ram     int64 // bytes of entries that are in memory only
	sending uint64
}

type entry struct {
	seq  uint64
	rows int
	size int64
	seg  uint64 // name of its segment; 0 = in memory only
	off  int64
	data []byte // nil = on disk only
}

// Memory makes a spool without a folder.
func Memory() *Spool { return &Spool{next: 1, used: map[uint64]int{}} }

func (s *Spool) count(batches, rows int, size int64) {
	s.waiting.Add(int64(batches))
	s.rows.Add(int64(rows))
	s.bytes.Add(size)
}

// begin opens a new segment named by the next number, and removes those before it that hold nothing any more.
func (s *Spool) begin() error {
	f, err := os.OpenFile(s.path(s.next), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("writing history that waits: %w", err)
	}
	s.closeHead()
	s.head, s.headAt, s.headEnd = f, s.next, 0
	s.clean()
	return nil
}

func (s *Spool) closeHead() {
	if s.head != nil {
		_ = s.head.Close()
		s.head = nil
	}
}

// clean removes segments without a batch that waits, but never the one written to.
func (s *Spool) clean() {
	names, err := s.segments()
	if err != nil {
		return
	}
	for _, name := range names {
		if name != s.headAt && s.used[name] == 0 {
			_ = os.Remove(s.path(name)) // one that stays is tried again with the next
		}
	}
}

// Append queues a batch; encode is told its number and gives its bytes, which the spool keeps. Past the bound the oldest
// batches are dropped: dropped is the rows that were in them. err tells that the disk did not take the batch, which waits in memory then.
func (s *Spool) Append(rows int, encode func(seq uint64) []byte) (seq uint64, dropped int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := entry{seq: s.next, rows: rows, data: encode(s.next)}
	s.next++
	e.size = frameHeader + int64(len(e.data))
	if s.dir != "" {
		// Those that the disk did not take are older: first come, first written.
		if err = s.writeDown(); err == nil {
			err = s.write(&e)
		}
	}
	s.onMemory.Store(s.dir == "" || err != nil)
	if e.seg == 0 {
		s.ram += e.size
	} else {
		s.cached += e.size
	}
	s.queue = append(s.queue, e)
	s.count(1, rows, e.size)
	return e.seq, s.bound(), err
}

// writeDown writes to the disk what is in memory only, as far as the disk takes it now.
func (s *Spool) writeDown() error {
	for i := 0; s.ram > 0 && i < len(s.queue); i++ {
		e := &s.queue[i]
		if e.seg != 0 {
			continue
		}
		if err := s.write(e); err != nil {
			return err
		}
		s.ram -= e.size
		s.cached += e.size
	}
	return nil
}

func (s *Spool) write(e *entry) error {
	if s.head == nil || s.headEnd >= s.segment {
		was := s.next
		s.next = e.seq // the segment is named by the batch it begins with
		err := s.begin()
		s.next = was
		if err != nil {
			return err
		}
	}
	frame := make([]byte, frameHeader, e.size)
	binary.LittleEndian.PutUint32(frame, uint32(len(e.data)))
	binary.LittleEndian.PutUint64(frame[8:], e.seq)
	binary.LittleEndian.PutUint32(frame[16:], uint32(e.rows))
	binary.LittleEndian.PutUint32(frame[4:], sum(frame[8:], e.data))
	if _, err := s.head.WriteAt(append(frame, e.data...), s.headEnd); err != nil {
		_ = s.head.Truncate(s.headEnd)
		return fmt.Errorf("writing history that waits: %w", err)
	}
	e.seg, e.off = s.headAt, s.headEnd
	s.used[e.seg]++
	s.headEnd += e.size
	return nil
}

// bound drops what is too much, oldest first, but not the batch that is being sent.
func (s *Spool) bound() (dropped int) {
	for len(s.queue) > 1 {
		disk := s.bytes.Load() - s.ram
		if s.ram <= memoryBytes && (s.dir == "" || disk <= s.max) {
			break
		}
		i := 0
		if s.queue[0].seq == s.sending {
			i = 1
		}
		if s.ram > memoryBytes { // of those in memory
			for i < len(s.queue) && s.queue[i].seg != 0 {
				i++
			}
		}
		if i >= len(s.queue)-1 {
			break
		}
		dropped += s.queue[i].rows
		s.remove(i)
	}
	// Older batches are read back from the disk when their turn comes.
	for i := 0; s.cached > cacheBytes && i < len(s.queue); i++ {
		if e := &s.queue[i]; e.seg != 0 && e.data != nil && e.seq != s.sending {
			e.data = nil
			s.cached -= e.size
		}
	}
	return dropped
}

func (s *Spool) remove(i int) {
	e := s.queue[i]
	s.count(-1, -e.rows, -e.size)
	switch {
	case e.seg == 0:
		s.ram -= e.size
	case e.data != nil:
		s.cached -= e.size
	}
	if i == 0 {
		s.queue[0] = entry{}
		s.queue = s.queue[1:]
	} else {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
	if e.seg == 0 {
		return
	}
	if s.used[e.seg]--; s.used[e.seg] == 0 {
		delete(s.used, e.seg)
		if e.seg != s.headAt {
			_ = os.Remove(s.path(e.seg))
		}
	}
}

// Oldest returns the batch whose turn it is; ok is false when none waits. A batch that the disk lost or damaged is left out:
// lost is the rows that were in such.
func (s *Spool) Oldest() (b Batch, lost int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) > 0 {
		e := &s.queue[0]
		if e.data == nil {
			data, err := s.read(e)
			if err != nil {
				lost += e.rows
				s.remove(0)
				continue
			}
			e.data = data
			s.cached += e.size
		}
		s.sending = e.seq
		return Batch{Seq: e.seq, Rows: e.rows, Data: e.data}, lost, true
	}
	return Batch{}, lost, false
}

func (s *Spool) read(e *entry) ([]byte, error) {
	f, err := os.Open(s.path(e.seg))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, _, err := readFrame(f, e.off)
	if err == nil && b.Seq != e.seq {
		err = errors.New("another batch is in its place")
	}
	return b.Data, err
}

// Done takes a batch out: the store has it.
func (s *Spool) Done(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 && s.queue[0].seq == seq {
		s.remove(0)
	}
	s.sending = 0
	// An empty segment that has grown is left behind, so that a restart does not send it all again.
	if s.dir != "" && len(s.queue) == 0 && s.headEnd > 1<<20 {
		_ = s.begin()
	}
}

// Waiting returns how many batches, rows and bytes wait.
func (s *Spool) Waiting() (batches, rows, bytes int64) {
	return s.waiting.Load(), s.rows.Load(), s.bytes.Load()
}

// InMemory tells that batches are not on a disk: they end with the process.
func (s *Spool) InMemory() bool { return s.onMemory.Load() }

// Pending yields the waiting batches from a number on. It is for start-up.
func (s *Spool) Pending(from uint64, yield func(Batch)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.queue {
		e := &s.queue[i]
		if e.seq < from {
			continue
		}
		data := e.data
		if data == nil {
			var err error
			if data, err = s.read(e); err != nil {
				continue
			}
		}
		yield(Batch{Seq: e.seq, Rows: e.rows, Data: data})
	}
}

// Close closes the files. What waits stays in them. It returns the rows that are lost: the disk did not take them.
func (s *Spool) Close() (lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dir == "" || s.writeDown() != nil {
		for i := range s.queue {
			if s.queue[i].seg == 0 {
				lost += s.queue[i].rows
			}
		}
	}
	if s.dir != "" && len(s.queue) == 0 && s.headEnd > 0 {
		_ = s.begin()
	}
	s.closeHead()
	return lost
}

// Last returns the number of the newest batch, 0 before the first.
func (s *Spool) Last() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next - 1
}
