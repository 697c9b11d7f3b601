// Package observe reads and writes what NGINX reports about finished attempts: the body of POST /observe in its two
// forms, the compact one (48-byte records after one line of JSON) and the readable one (a JSON object a line).
// docs/protocol.md is the specification; this package has no opinion on what the records mean.
//
// Decoding goes into a Batch that is used again and again. In the steady state, where a batch names the pools,
// classes and peers that earlier ones named, decoding allocates nothing, however many records there are.
package observe

import (
	"fmt"

	"github.com/weirlb/weir/engine/jsonread"
)

// Limits of one batch. They bound what a broken or hostile sender can make the engine hold.
const (
	MaxBody    = 4 << 20 // bytes of a body
	MaxRecords = 65536   // records of a batch, and in-flight entries of its header
	MaxNames   = 4096    // names of each kind: pools, classes, peers
	MaxName    = 256     // bytes of one name
	RecordSize = 48      // bytes of a compact record
	workSize   = 4       // bytes of its work, in batches that have it
)

// None stands for "not measured" in HeaderMS, PredictedMS and Load.
const None float32 = -1

// InflightMore is the in-flight count that means "this or more".
const InflightMore = 65535

// Kind says how an attempt ended. The numbers are those on the wire.
type Kind uint8

// The kinds. Failures are Refused up to Status; Abort is censored (nothing is known about how it would have ended);
// IdleRace is a keep-alive connection the peer closed under us and is no evidence about the peer.
const (
	OK Kind = iota
	Refused
	ConnectTimeout
	Timeout
	Reset
	Status
	Abort
	IdleRace
	kinds // their number
)

// Kinds is the number of kinds; a Kind below it is valid.
const Kinds = int(kinds)

// KindNames returns the names of the kinds as the readable form writes them, indexed by Kind.
func KindNames() [Kinds]string {
	return [Kinds]string{"ok", "refused", "connect_timeout", "timeout", "reset", "status", "abort", "idle_race"}
}

func (k Kind) String() string {
	if k >= kinds {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return KindNames()[k]
}

// Failure reports whether the attempt counts as a failure of the peer.
func (k Kind) Failure() bool { return k >= Refused && k <= Status }

// kindOf is the inverse of String without an allocation for a name that is known.
func kindOf(name []byte) (Kind, bool) {
	for k, known := range KindNames() {
		if string(name) == known {
			return Kind(k), true
		}
	}
	return 0, false
}

// Flags of a record. Bits this version does not name are carried and ignored.
type Flags uint16

// The flags of version 1.
const (
	Explored Flags = 1 << iota // picked by the exploring share
	Control                    // picked for the control slice
	Stream                     // latency is to the first header byte only
	Local                      // picked by NGINX's local rule, not by a table
	Panic                      // no peer was usable
	Bound                      // the client's affinity chose, not a draw
	Confined                   // only peers of one side of the pool's split were considered
	ByHeader                   // a header of the client chose that side, not the split's share
)

// Record is one attempt. Pool, Class and Peer are indexes into the batch's names.
// Times are in milliseconds.
type Record struct {
	Pool, Class, Peer uint16
	Attempt           uint8 // 1 = first
	Kind              Kind
	Status            uint16 // HTTP status, 0 = none
	Flags             Flags
	Inflight          uint16 // on the peer at the pick, without this attempt; InflightMore = more
	Reported          Reported
	Propensity        float32
	HeaderMS          float32 // to the first header byte, or None
	TotalMS           float32 // to the end of the attempt
	Weight            float32 // the request's weight hint, 0 = none
	PredictedMS       float32 // the cost the pick was made on, or None
	AgeMS             float32 // from the end of the attempt to the sending of the batch
	Bytes             uint32  // of the answer, capped
	Load              float32 // utilisation the peer reported, or None
	Work              float32 // of the requests in Inflight, in mean requests of the pool; 0 = not known
}

// Reported is the in-flight count a peer reported with its answer, as on the wire: the count + 1, and 0 for none, so that a sender
// that knows nothing of it, and the zero Record, say none. 65535 stands for 65534 or more.
type Reported uint16

// ReportedOf makes the form of a count; negative is none.
func ReportedOf(n int) Reported {
	return Reported(min(max(n, -1)+1, InflightMore))
}

// Count is the count, -1 for none.
func (r Reported) Count() int { return int(r) - 1 }

// Inflight is one entry of the header's in-flight totals.
type Inflight struct {
	Pool, Peer string
	Count      int
}

// Shed is what one NGINX refused of a pool since it last said: requests over the pool's limit by priority, and those that found every
// peer at its cap.
type Shed struct {
	Pool                    string
	High, Normal, Low, Full int
}

// Limit is a limit that NGINX was told, by this engine or one before it: requests in flight, and the latency without a queue in ms.
type Limit struct {
	Pool      string
	Max, Base float64
}

// BadReports is how many load reports of a pool's peers one NGINX could not use since it last said, by what was wrong with them.
type BadReports struct {
	Pool, Reason string
	Count        int
}

// RateLimited is how many requests one NGINX refused since it last said because they came above a rate limit.
type RateLimited struct {
	Pool  string
	Count int
}

// HeaderKeys are keys of a batch's header that came after the first engines of version 1. An engine refuses a header with a key that it does not
// know, so it says which of these it takes (`accepts` of /watch), and only then are they sent.
func HeaderKeys() []string { return []string{"bad_reports", "rate_limited", "generation"} }

// Batch is the content of one POST /observe. The zero value is ready. It is reused: a decode replaces the content,
// so whoever keeps a slice of it past the next decode must copy it; the strings may be kept. Not safe for concurrent use.
type Batch struct {
	Instance string // name of the NGINX that sent it, empty in the readable form
	Worker   int    // its worker's number
	// Generation tells the memories that the workers of one NGINX count in apart, where there may be two; 0 = the first.
	Generation int
	Dropped    uint64 // records the sender lost to a full buffer since its last batch

	Pools, Classes, Peers []string
	Inflight              []Inflight
	Shed                  []Shed
	Limits                []Limit
	BadReports            []BadReports
	RateLimited           []RateLimited
	Records               []Record

	// interned holds one string for every name seen by this batch's decodes, so that the same name is not allocated
	// again each time. It is emptied when it has grown past internedMax.
	interned map[string]string
	// Positions of names in Pools, Classes and Peers; filled by Add and by the readable form only.
	poolAt, classAt, peerAt map[string]uint16
	text                    jsonread.Reader // scratch of the decoders
}

const internedMax = 3 * MaxNames

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	b.Instance, b.Worker, b.Generation, b.Dropped = "", 0, 0, 0
	b.Pools, b.Classes, b.Peers = b.Pools[:0], b.Classes[:0], b.Peers[:0]
	b.Inflight, b.Records = b.Inflight[:0], b.Records[:0]
	b.Shed, b.Limits, b.BadReports, b.RateLimited = b.Shed[:0], b.Limits[:0], b.BadReports[:0], b.RateLimited[:0]
	clear(b.poolAt)
	clear(b.classAt)
	clear(b.peerAt)
}

// Add appends a record under its names; the indexes in r are replaced. It fails when the batch is full, a name is
// not allowed or the record is not valid, and leaves the batch as it was.
func (b *Batch) Add(pool, class, peer string, r Record) error {
	if len(b.Records) >= MaxRecords {
		return ErrTooMany
	}
	for _, name := range [...]string{pool, class, peer} {
		if fault := nameFault(name); fault != "" {
			return &RecordError{Record: len(b.Records), Reason: fault}
		}
	}
	if fault := r.fault(); fault != "" {
		return &RecordError{Record: len(b.Records), Reason: fault}
	}
	ok := true
	r.Pool, ok = place(&b.poolAt, &b.Pools, pool, ok)
	r.Class, ok = place(&b.classAt, &b.Classes, class, ok)
	r.Peer, ok = place(&b.peerAt, &b.Peers, peer, ok)
	if !ok {
		return &RecordError{Record: len(b.Records), Reason: tooManyNames}
	}
	b.Records = append(b.Records, r)
	return nil
}

// place returns the position of a name in a list, appending it when it is new.
func place(at *map[string]uint16, list *[]string, name string, ok bool) (uint16, bool) {
	if i, known := (*at)[name]; known {
		return i, ok
	}
	if len(*list) >= MaxNames {
		return 0, false
	}
	if *at == nil {
		*at = make(map[string]uint16)
	}
	i := uint16(len(*list))
	*list = append(*list, name)
	(*at)[name] = i
	return i, ok
}

// intern returns the bytes as a string, the same one for the same bytes.
func (b *Batch) intern(name []byte) string {
	if s, ok := b.interned[string(name)]; ok {
		return s
	}
	if b.interned == nil {
		b.interned = make(map[string]string)
	}
	if len(b.interned) >= internedMax {
		clear(b.interned)
	}
	s := string(name)
	b.interned[s] = s
	return s
}
