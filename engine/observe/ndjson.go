package observe

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// DecodeNDJSON replaces the batch by the body of a readable batch: one object a line, empty lines skipped.
// Errors are as for DecodeCompact; there is no header to be wrong.
func (b *Batch) DecodeNDJSON(body []byte) error {
	b.Reset()
	if len(body) > MaxBody {
		return ErrTooMany
	}
	for len(body) > 0 {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte{'\n'})
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if len(b.Records) >= MaxRecords {
			b.Reset()
			return ErrTooMany
		}
		r, err := b.line(line)
		if err == nil {
			if fault := r.fault(); fault != "" {
				return &RecordError{len(b.Records), fault}
			}
			b.Records = append(b.Records, r)
			continue
		}
		return &RecordError{len(b.Records), err.Error()}
	}
	return nil
}

// The keys of the readable form, in the order of the record.
const (
	keyPool = iota
	keyClass
	keyPeer
	keyAttempt
	keyKind
	keyStatus
	keyFlags
	keyInflight
	keyPropensity
	keyHeader
	keyTotal
	keyWeight
	keyPredicted
	keyAge
	keyBytes
	keyLoad
	keyReported
	keyWork
	keyCount
)

func keyNames() [keyCount]string {
	return [keyCount]string{
		"pool", "class", "peer", "attempt", "kind", "status", "flags", "inflight", "propensity",
		"header_ms", "total_ms", "weight", "predicted_ms", "age_ms", "bytes", "load",
		"inflight_reported", "work",
	}
}

func keyOf(name []byte) (int, bool) {
	for k, known := range keyNames() {
		if string(name) == known {
			return k, true
		}
	}
	return 0, false
}

// line reads one object. pool, peer and total_ms must be there: a record that said nothing about how long it took
// would be taken for a fast one.
func (b *Batch) line(line []byte) (r Record, err error) {
	r = Record{Attempt: 1, Propensity: 1, HeaderMS: None, PredictedMS: None, Load: None}
	in := &b.text
	in.Reset(line)
	seen := uint32(0)
	more, err := in.First('{', '}')
	for ; more && err == nil; more, err = in.Next('}') {
		var name []byte
		if name, err = in.Key(); err != nil {
			return r, err
		}
		key, known := keyOf(name)
		if !known {
			all := keyNames()
			return r, fmt.Errorf("%q is no key of a record; the keys are %s", name, strings.Join(all[:], " "))
		}
		if seen&(1<<key) != 0 {
			return r, fmt.Errorf("the key %q comes twice", name)
		}
		seen |= 1 << key
		if err = b.value(&r, key); err != nil {
			return r, fmt.Errorf("%s: %w", keyNames()[key], err)
		}
	}
	if err != nil {
		return r, err
	}
	if err = in.End(); err != nil {
		return r, err
	}
	for _, key := range [...]int{keyPool, keyPeer, keyTotal} {
		if seen&(1<<key) == 0 {
			return r, fmt.Errorf("%q is missing", keyNames()[key])
		}
	}
	if seen&(1<<keyClass) == 0 {
		r.Class, err = b.position(&b.classAt, &b.Classes, []byte{'*'})
	}
	return r, err
}

// value reads the value of one key into the record.
func (b *Batch) value(r *Record, key int) (err error) {
	in := &b.text
	var n int
	switch key {
	case keyPool:
		r.Pool, err = b.named(&b.poolAt, &b.Pools)
	case keyClass:
		r.Class, err = b.named(&b.classAt, &b.Classes)
	case keyPeer:
		r.Peer, err = b.named(&b.peerAt, &b.Peers)
	case keyAttempt:
		n, err = in.Integer(math.MaxUint8)
		r.Attempt = uint8(n)
	case keyKind:
		r.Kind, err = b.kind()
	case keyStatus:
		n, err = in.Integer(math.MaxUint16)
		r.Status = uint16(n)
	case keyFlags:
		n, err = in.Integer(math.MaxUint16)
		r.Flags = Flags(n)
	case keyInflight:
		n, err = in.Integer(math.MaxInt32)
		r.Inflight = uint16(min(n, InflightMore))
	case keyBytes:
		n, err = in.Integer(1 << 53)
		r.Bytes = uint32(min(n, math.MaxUint32))
	case keyPropensity:
		r.Propensity, err = in.Float32()
	case keyHeader:
		r.HeaderMS, err = in.Float32()
	case keyTotal:
		r.TotalMS, err = in.Float32()
	case keyWeight:
		r.Weight, err = in.Float32()
	case keyPredicted:
		r.PredictedMS, err = in.Float32()
	case keyAge:
		r.AgeMS, err = in.Float32()
	case keyReported:
		n, err = in.Integer(math.MaxInt32)
		r.Reported = ReportedOf(n)
	case keyWork:
		r.Work, err = in.Float32()
	case keyLoad:
		r.Load, err = in.Float32()
	}
	return err
}

func (b *Batch) kind() (Kind, error) {
	name, err := b.text.Str()
	if err != nil {
		return 0, err
	}
	k, ok := kindOf(name)
	if !ok {
		all := KindNames()
		return 0, fmt.Errorf("%q is unknown; the kinds are %s", name, strings.Join(all[:], " "))
	}
	return k, nil
}

func (b *Batch) named(at *map[string]uint16, list *[]string) (uint16, error) {
	name, err := b.text.Str()
	if err != nil {
		return 0, err
	}
	return b.position(at, list, name)
}

// position is place for bytes, without making a string of a name that is known.
func (b *Batch) position(at *map[string]uint16, list *[]string, name []byte) (uint16, error) {
	if i, ok := (*at)[string(name)]; ok {
		return i, nil
	}
	if len(name) > MaxName {
		return 0, fmt.Errorf("a name of %d bytes; at most %d are allowed", len(name), MaxName)
	}
	if !utf8.Valid(name) {
		return 0, fmt.Errorf("the name %q is not valid UTF-8", name)
	}
	i, ok := place(at, list, b.intern(name), true)
	if !ok {
		return 0, fmt.Errorf("%s", tooManyNames)
	}
	return i, nil
}
