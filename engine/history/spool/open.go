package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Open reads what a folder holds and goes on from there. A batch that is damaged, or cut off as a killed engine leaves it, is lost: Damaged
// tells how much that is. maxBytes bounds what is waiting.
func Open(dir string, maxBytes int64) (*Spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder for history that waits: %w", err)
	}
	s := &Spool{dir: dir, max: maxBytes, segment: max(min(8<<20, maxBytes/8), 64<<10), next: 1, used: map[uint64]int{}}
	names, err := s.segments()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := s.scan(name); err != nil {
			return nil, err
		}
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Spool) path(name uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%016x%s", name, suffix))
}

func (s *Spool) segments() ([]uint64, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("folder for history that waits: %w", err)
	}
	var names []uint64
	for _, f := range files {
		if base, ok := strings.CutSuffix(f.Name(), suffix); ok {
			if n, err := strconv.ParseUint(base, 16, 64); err == nil {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// scan takes in the batches of a segment.
func (s *Spool) scan(name uint64) error {
	f, err := os.Open(s.path(name))
	if err != nil {
		return fmt.Errorf("reading history that waits: %w", err)
	}
	defer f.Close()
	s.next = max(s.next, name)
	var off int64
	for {
		b, size, err := readFrame(f, off)
		if errors.Is(err, errDamaged) { // it may be this one alone
			s.damaged += size
			off += size
			continue
		}
		if err != nil {
			break // the end, or the batch that was being written when the engine was killed
		}
		s.queue = append(s.queue, entry{seq: b.Seq, rows: b.Rows, size: size, seg: name, off: off})
		s.used[name]++
		s.count(1, b.Rows, size)
		s.next = max(s.next, b.Seq+1)
		off += size
	}
	if info, err := f.Stat(); err == nil {
		s.damaged += info.Size() - off
	}
	if s.used[name] == 0 {
		return os.Remove(s.path(name))
	}
	return nil
}

var errDamaged = errors.New("it is damaged")

// Damaged returns how many bytes Open found that are no batches.
func (s *Spool) Damaged() int64 { return s.damaged }

func readFrame(f io.ReaderAt, off int64) (Batch, int64, error) {
	var h [frameHeader]byte
	if _, err := f.ReadAt(h[:], off); err != nil {
		return Batch{}, 0, err
	}
	n := binary.LittleEndian.Uint32(h[:])
	if n == 0 || n > maxFrame {
		return Batch{}, 0, errors.New("a length that cannot be")
	}
	data := make([]byte, n)
	if _, err := f.ReadAt(data, off+frameHeader); err != nil {
		return Batch{}, 0, err
	}
	if binary.LittleEndian.Uint32(h[4:]) != sum(h[8:], data) {
		return Batch{}, frameHeader + int64(n), errDamaged
	}
	b := Batch{Seq: binary.LittleEndian.Uint64(h[8:]), Rows: int(binary.LittleEndian.Uint32(h[16:])), Data: data}
	return b, frameHeader + int64(n), nil
}

func sum(parts ...[]byte) (crc uint32) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, p := range parts {
		crc = crc32.Update(crc, table, p)
	}
	return crc
}
