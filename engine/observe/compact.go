package observe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// DecodeCompact replaces the batch by the body of a compact batch.
//
// Errors: ErrTooMany, *VersionError and whatever wraps ErrHeader leave the batch empty; a *RecordError leaves the
// records before the bad one in it.
func (b *Batch) DecodeCompact(body []byte) error {
	b.Reset()
	if len(body) > MaxBody {
		return ErrTooMany
	}
	line, rest, found := bytes.Cut(body, []byte{'\n'})
	if !found {
		return fmt.Errorf("%w does not end in a newline", ErrHeader)
	}
	declared, works, err := b.header(line)
	if err != nil {
		b.Reset()
		return err
	}
	each := RecordSize
	if works > 0 {
		each += workSize
	}
	if declared > MaxRecords || len(rest) > MaxRecords*each {
		b.Reset()
		return ErrTooMany
	}
	if works != 0 && works != declared {
		b.Reset()
		return fmt.Errorf("%w has work for %d records of %d; it is for all or none", ErrHeader, works, declared)
	}
	var work []byte
	if n := declared * RecordSize; works > 0 && len(rest) >= n {
		rest, work = rest[:n], rest[n:]
	}
	for i := range declared {
		if len(rest) < RecordSize {
			return &RecordError{i, fmt.Sprintf("%d bytes are left where a record of %d should be; the header says %d records",
				len(rest), RecordSize, declared)}
		}
		r := decodeRecord(rest)
		if works > 0 {
			if len(work) < workSize {
				return &RecordError{i, fmt.Sprintf("%d bytes are left where the work of a record should be", len(work))}
			}
			r.Work = math.Float32frombits(binary.LittleEndian.Uint32(work))
			work = work[workSize:]
		}
		if fault := b.recordFault(&r); fault != "" {
			return &RecordError{i, fault}
		}
		b.Records = append(b.Records, r)
		rest = rest[RecordSize:]
	}
	if left := len(rest) + len(work); left > 0 {
		return &RecordError{declared, fmt.Sprintf("%d bytes follow the %d records the header says", left, declared)}
	}
	return nil
}

// recordFault adds to Record.fault what only the batch knows: its lists.
func (b *Batch) recordFault(r *Record) string {
	switch {
	case int(r.Pool) >= len(b.Pools):
		return fmt.Sprintf("pool index %d, but the header lists %d", r.Pool, len(b.Pools))
	case int(r.Class) >= len(b.Classes):
		return fmt.Sprintf("class index %d, but the header lists %d", r.Class, len(b.Classes))
	case int(r.Peer) >= len(b.Peers):
		return fmt.Sprintf("peer index %d, but the header lists %d", r.Peer, len(b.Peers))
	}
	return r.fault()
}

func decodeRecord(p []byte) Record {
	le := binary.LittleEndian
	_ = p[RecordSize-1]
	f32 := func(at int) float32 { return math.Float32frombits(le.Uint32(p[at:])) }
	return Record{
		Pool: le.Uint16(p[0:]), Class: le.Uint16(p[2:]), Peer: le.Uint16(p[4:]),
		Attempt: p[6], Kind: Kind(p[7]),
		Status: le.Uint16(p[8:]), Flags: Flags(le.Uint16(p[10:])), Inflight: le.Uint16(p[12:]), Reported: Reported(le.Uint16(p[14:])),
		Propensity: f32(16), HeaderMS: f32(20), TotalMS: f32(24), Weight: f32(28), PredictedMS: f32(32), AgeMS: f32(36),
		Bytes: le.Uint32(p[40:]), Load: f32(44),
	}
}

// header reads the JSON line into the batch and returns the number of records it declares.
func (b *Batch) header(line []byte) (records, works int, err error) {
	const (
		sawVersion = 1 << iota
		sawRecords
	)
	in := &b.text
	in.Reset(line)
	seen := 0
	more, err := in.First('{', '}')
	for ; more && err == nil; more, err = in.Next('}') {
		var key []byte
		if key, err = in.Key(); err != nil {
			break
		}
		switch string(key) {
		case "v":
			var v float64
			if v, err = in.Number(); err == nil && v != 1 {
				return 0, 0, &VersionError{v}
			}
			seen |= sawVersion
		case "instance":
			b.Instance, err = b.name()
		case "worker":
			b.Worker, err = in.Integer(math.MaxInt32)
		case "generation":
			b.Generation, err = in.Integer(math.MaxInt32)
		case "records":
			records, err = in.Integer(math.MaxInt32)
			seen |= sawRecords
		case "dropped":
			var n int
			n, err = in.Integer(1 << 53)
			b.Dropped = uint64(n)
		case "work":
			works, err = in.Integer(math.MaxInt32)
		case "pools":
			b.Pools, err = b.names(b.Pools[:0])
		case "classes":
			b.Classes, err = b.names(b.Classes[:0])
		case "peers":
			b.Peers, err = b.names(b.Peers[:0])
		case "inflight":
			err = b.inflight()
		case "shed":
			b.Shed, err = list(b, b.Shed[:0], "shed must be a list of [pool, high, normal, low, full]", b.shedEntry)
		case "limits":
			b.Limits, err = list(b, b.Limits[:0], "limits must be a list of [pool, max, base_ms]", b.limitEntry)
		case "bad_reports":
			b.BadReports, err = list(b, b.BadReports[:0], "bad_reports must be a list of [pool, reason, count]", b.badReportsEntry)
		case "rate_limited":
			b.RateLimited, err = list(b, b.RateLimited[:0], "rate_limited must be a list of [pool, count]", b.rateEntry)
		default:
			err = fmt.Errorf("%q is no key of it; the keys are v instance worker generation records dropped pools classes peers inflight work shed limits bad_reports rate_limited", key)
		}
		if err != nil {
			if key != nil {
				err = fmt.Errorf("at or after byte %d: %w", in.Pos(), err)
			}
			break
		}
	}
	if err == nil {
		err = in.End()
	}
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("%w: %w", ErrHeader, err)
	case seen&sawVersion == 0:
		return 0, 0, fmt.Errorf(`%w has no "v"; it must be 1`, ErrHeader)
	case seen&sawRecords == 0:
		return 0, 0, fmt.Errorf(`%w has no "records", the number of records that follow`, ErrHeader)
	}
	return records, works, nil
}

func (b *Batch) name() (string, error) {
	raw, err := b.text.Str()
	if err != nil {
		return "", err
	}
	if len(raw) > MaxName {
		return "", fmt.Errorf("a name of %d bytes; at most %d are allowed", len(raw), MaxName)
	}
	if !utf8.Valid(raw) {
		return "", fmt.Errorf("the name %q is not valid UTF-8", raw)
	}
	return b.intern(raw), nil
}

// names reads a list of names. An empty object passes for an empty list: Lua's cjson writes an empty table so.
func (b *Batch) names(list []string) ([]string, error) {
	in := &b.text
	if in.Peek() == '{' {
		if more, err := in.First('{', '}'); more || err != nil {
			return list, fmt.Errorf("a list of names was expected")
		}
		return list, nil
	}
	more, err := in.First('[', ']')
	for ; more && err == nil; more, err = in.Next(']') {
		if len(list) >= MaxNames {
			return list, fmt.Errorf("more than %d names in a list", MaxNames)
		}
		var name string
		if name, err = b.name(); err != nil {
			return list, err
		}
		list = append(list, name)
	}
	return list, err
}

// inflight reads [[pool, peer, count], ...].
func (b *Batch) inflight() (err error) {
	b.Inflight, err = list(b, b.Inflight[:0], "inflight must be a list of [pool, peer, count]", b.inflightEntry)
	return err
}

// list reads a list of entries. An empty object passes for an empty list: Lua's cjson writes an empty table so.
func list[T any](b *Batch, to []T, form string, entry func() (T, error)) ([]T, error) {
	in := &b.text
	if in.Peek() == '{' {
		if more, err := in.First('{', '}'); more || err != nil {
			return to, errors.New(form)
		}
		return to, nil
	}
	more, err := in.First('[', ']')
	for ; more && err == nil; more, err = in.Next(']') {
		if len(to) >= MaxRecords {
			return to, fmt.Errorf("more than %d entries; %s", MaxRecords, form)
		}
		e, err := entry()
		if err != nil {
			return to, fmt.Errorf("entry %d: %w; %s", len(to), err, form)
		}
		to = append(to, e)
	}
	return to, err
}

func (b *Batch) inflightEntry() (e Inflight, err error) {
	e.Pool, e.Peer, e.Count, err = b.pair()
	return e, err
}

// pair reads [name, name, count].
func (b *Batch) pair() (one, two string, n int, err error) {
	in := &b.text
	if err = in.Token('['); err != nil {
		return one, two, n, err
	}
	if one, err = b.name(); err != nil {
		return one, two, n, err
	}
	if err = in.Token(','); err != nil {
		return one, two, n, err
	}
	if two, err = b.name(); err != nil {
		return one, two, n, err
	}
	if err = in.Token(','); err != nil {
		return one, two, n, err
	}
	if n, err = in.Integer(math.MaxInt32); err != nil {
		return one, two, n, err
	}
	return one, two, n, in.Token(']')
}

func (b *Batch) badReportsEntry() (e BadReports, err error) {
	e.Pool, e.Reason, e.Count, err = b.pair()
	return e, err
}

func (b *Batch) shedEntry() (e Shed, err error) {
	in := &b.text
	if err = in.Token('['); err != nil {
		return e, err
	}
	if e.Pool, err = b.name(); err != nil {
		return e, err
	}
	for _, n := range [...]*int{&e.High, &e.Normal, &e.Low, &e.Full} {
		if err = in.Token(','); err != nil {
			return e, err
		}
		if *n, err = in.Integer(math.MaxInt32); err != nil {
			return e, err
		}
	}
	return e, in.Token(']')
}

func (b *Batch) rateEntry() (e RateLimited, err error) {
	in := &b.text
	if err = in.Token('['); err != nil {
		return e, err
	}
	if e.Pool, err = b.name(); err != nil {
		return e, err
	}
	if err = in.Token(','); err != nil {
		return e, err
	}
	if e.Count, err = in.Integer(math.MaxInt32); err != nil {
		return e, err
	}
	return e, in.Token(']')
}

func (b *Batch) limitEntry() (e Limit, err error) {
	in := &b.text
	if err = in.Token('['); err != nil {
		return e, err
	}
	if e.Pool, err = b.name(); err != nil {
		return e, err
	}
	for _, x := range [...]*float64{&e.Max, &e.Base} {
		if err = in.Token(','); err != nil {
			return e, err
		}
		if *x, err = in.Number(); err != nil {
			return e, err
		}
	}
	return e, in.Token(']')
}
