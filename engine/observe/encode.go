package observe

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// header is the first line of the compact form, in the order the protocol writes it.
type header struct {
	V        int      `json:"v"`
	Instance string   `json:"instance"`
	Worker   int      `json:"worker"`
	Gen      int      `json:"generation,omitempty"`
	Records  int      `json:"records"`
	Dropped  uint64   `json:"dropped"`
	Pools    []string `json:"pools"`
	Classes  []string `json:"classes"`
	Peers    []string `json:"peers"`
	Inflight [][3]any `json:"inflight,omitempty"`
	Work     int      `json:"work,omitempty"`
	Shed     [][5]any `json:"shed,omitempty"`
	Limits   [][3]any `json:"limits,omitempty"`
	Bad      [][3]any `json:"bad_reports,omitempty"`
	Rated    [][2]any `json:"rate_limited,omitempty"`
}

// AppendCompact appends the compact form. NGINX has its own encoder; this one is for tests, tools and the simulator,
// and so it does not spare allocations. The batch must be one that the decoder would take.
func (b *Batch) AppendCompact(dst []byte) ([]byte, error) {
	h := header{
		V: 1, Instance: b.Instance, Worker: b.Worker, Gen: b.Generation, Records: len(b.Records), Dropped: b.Dropped,
		Pools: b.Pools, Classes: b.Classes, Peers: b.Peers,
	}
	for i := range b.Records {
		if b.Records[i].Work > 0 {
			h.Work = len(b.Records)
		}
	}
	for _, e := range b.Inflight {
		h.Inflight = append(h.Inflight, [3]any{e.Pool, e.Peer, e.Count})
	}
	for _, e := range b.Shed {
		h.Shed = append(h.Shed, [5]any{e.Pool, e.High, e.Normal, e.Low, e.Full})
	}
	for _, e := range b.Limits {
		h.Limits = append(h.Limits, [3]any{e.Pool, e.Max, e.Base})
	}
	for _, e := range b.RateLimited {
		h.Rated = append(h.Rated, [2]any{e.Pool, e.Count})
	}
	for _, e := range b.BadReports {
		h.Bad = append(h.Bad, [3]any{e.Pool, e.Reason, e.Count})
	}
	if h.Pools == nil {
		h.Pools, h.Classes, h.Peers = []string{}, []string{}, []string{}
	}
	line, err := json.Marshal(h)
	if err != nil {
		return dst, fmt.Errorf("encoding the header of a batch: %w", err)
	}
	dst = append(append(dst, line...), '\n')
	for i := range b.Records {
		dst = b.Records[i].append(dst)
	}
	for i := range h.Work {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(b.Records[i].Work))
	}
	return dst, nil
}

func (r *Record) append(dst []byte) []byte {
	le := binary.LittleEndian
	f32 := func(dst []byte, x float32) []byte { return le.AppendUint32(dst, math.Float32bits(x)) }
	dst = le.AppendUint16(dst, r.Pool)
	dst = le.AppendUint16(dst, r.Class)
	dst = le.AppendUint16(dst, r.Peer)
	dst = append(dst, r.Attempt, byte(r.Kind))
	dst = le.AppendUint16(dst, r.Status)
	dst = le.AppendUint16(dst, uint16(r.Flags))
	dst = le.AppendUint16(dst, r.Inflight)
	dst = le.AppendUint16(dst, uint16(r.Reported))
	dst = f32(dst, r.Propensity)
	dst = f32(dst, r.HeaderMS)
	dst = f32(dst, r.TotalMS)
	dst = f32(dst, r.Weight)
	dst = f32(dst, r.PredictedMS)
	dst = f32(dst, r.AgeMS)
	dst = le.AppendUint32(dst, r.Bytes)
	return f32(dst, r.Load)
}

// AppendNDJSON appends the readable form. Instance, worker, dropped and in-flight totals have no place in it.
func (b *Batch) AppendNDJSON(dst []byte) ([]byte, error) {
	for i := range b.Records {
		r := &b.Records[i]
		if int(r.Pool) >= len(b.Pools) || int(r.Class) >= len(b.Classes) || int(r.Peer) >= len(b.Peers) {
			return dst, &RecordError{i, "an index is outside the batch's lists"}
		}
		for k, name := range [...]string{b.Pools[r.Pool], b.Classes[r.Class], b.Peers[r.Peer]} {
			quoted, err := json.Marshal(name)
			if err != nil {
				return dst, fmt.Errorf("encoding record %d: %w", i, err)
			}
			dst = append(dst, [...]string{`{"pool":`, `,"class":`, `,"peer":`}[k]...)
			dst = append(dst, quoted...)
		}
		dst = strconv.AppendUint(append(dst, `,"attempt":`...), uint64(r.Attempt), 10)
		dst = append(append(append(dst, `,"kind":"`...), r.Kind.String()...), '"')
		dst = strconv.AppendUint(append(dst, `,"status":`...), uint64(r.Status), 10)
		dst = strconv.AppendUint(append(dst, `,"flags":`...), uint64(r.Flags), 10)
		dst = strconv.AppendUint(append(dst, `,"inflight":`...), uint64(r.Inflight), 10)
		dst = appendFloat(append(dst, `,"propensity":`...), r.Propensity)
		dst = appendFloat(append(dst, `,"header_ms":`...), r.HeaderMS)
		dst = appendFloat(append(dst, `,"total_ms":`...), r.TotalMS)
		dst = appendFloat(append(dst, `,"weight":`...), r.Weight)
		dst = appendFloat(append(dst, `,"predicted_ms":`...), r.PredictedMS)
		dst = appendFloat(append(dst, `,"age_ms":`...), r.AgeMS)
		dst = strconv.AppendUint(append(dst, `,"bytes":`...), uint64(r.Bytes), 10)
		dst = appendFloat(append(dst, `,"load":`...), r.Load)
		if n := r.Reported.Count(); n >= 0 {
			dst = strconv.AppendInt(append(dst, `,"inflight_reported":`...), int64(n), 10)
		}
		if r.Work > 0 {
			dst = appendFloat(append(dst, `,"work":`...), r.Work)
		}
		dst = append(dst, '}', '\n')
	}
	return dst, nil
}

func appendFloat(dst []byte, x float32) []byte {
	return strconv.AppendFloat(dst, float64(x), 'g', -1, 32)
}
