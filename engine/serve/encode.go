package serve

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"strconv"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/jsonwrite"
	"github.com/weirlb/weir/engine/observe"
)

// The JSON of tables is written by hand: it is built thousands of times an hour, of parts that are mostly the same.

// appendFloats appends numbers in base64, each in four bytes with the lowest first. parts are encoded as if they were one.
func appendFloats(dst []byte, parts ...[]float32) []byte {
	var raw [12]byte // three numbers are sixteen characters
	n := 0
	for _, part := range parts {
		for _, x := range part {
			binary.LittleEndian.PutUint32(raw[n:], math.Float32bits(x))
			if n += 4; n == len(raw) {
				dst, n = base64.StdEncoding.AppendEncode(dst, raw[:]), 0
			}
		}
	}
	return base64.StdEncoding.AppendEncode(dst, raw[:n])
}

func appendGrid(dst []byte) []byte {
	dst = append(dst, '[')
	for i, n := range decide.Grid() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	return append(dst, ']')
}

func appendRow(dst []byte, row []float32) []byte {
	dst = append(dst, '[')
	for i, x := range row {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendFloat(dst, float64(x), 'g', -1, 32)
	}
	return append(dst, ']')
}

// appendCosts appends the costs of one class, a list a peer.
func appendCosts(dst []byte, t *decide.Table, class int) []byte {
	dst = append(dst, '[')
	for p := range t.Peers {
		if p > 0 {
			dst = append(dst, ',')
		}
		dst = appendRow(dst, t.Row(class, p))
	}
	return append(dst, ']')
}

func (s *Snapshot) appendPeers(dst []byte) []byte {
	dst = append(dst, '[')
	for i := range s.Peers {
		p := &s.Peers[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, `{"addr":`...), s.shape.peersJSON[i]...)
		dst = append(append(append(dst, `,"state":"`...), p.State...), '"')
		dst = strconv.AppendBool(append(dst, `,"usable":`...), p.Usable)
		dst = jsonwrite.Number(append(dst, `,"admit":`...), p.Admit)
		dst = jsonwrite.Number(append(dst, `,"weight":`...), p.Weight)
		if p.Tier > 0 {
			dst = strconv.AppendInt(append(dst, `,"tier":`...), int64(p.Tier), 10)
		}
		if p.Away > 0 {
			dst = jsonwrite.Number(append(dst, `,"away":`...), p.Away)
		}
		if p.Group != "" {
			dst = jsonwrite.String(append(dst, `,"group":`...), p.Group)
		}
		if p.Cap > 0 {
			dst = strconv.AppendInt(append(dst, `,"max_inflight":`...), int64(p.Cap), 10)
		}
		if p.Needed {
			dst = append(dst, `,"needed":true`...)
		}
		if p.Keeps {
			dst = append(dst, `,"keeps":true`...)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

func appendSettings(dst []byte, policy string, c *config.Pool, split config.Split, l Limit) []byte {
	s := &c.Settings
	dst = jsonwrite.String(append(dst, `{"policy":`...), policy)
	number := func(key string, x float64) {
		dst = jsonwrite.Number(append(append(append(dst, `,"`...), key...), `":`...), x)
	}
	number("spread", s.Spread)
	number("explore", s.Explore)
	number("control", s.Control)
	number("max_stale_ms", float64(s.MaxStaleMS))
	number("connect_timeout_ms", float64(s.ConnectTimeoutMS))
	number("tries", float64(s.Retry.Tries))
	number("retry_timeout_ms", float64(s.Retry.TimeoutMS))
	number("retry_share", s.Retry.Share)
	number("retry_min_per_s", s.Retry.MinPerS)
	number("eject_consecutive", float64(s.Eject.Consecutive))
	number("eject_base_ms", float64(s.Eject.BaseMS))
	number("eject_max_ms", float64(s.Eject.MaxMS))
	number("eject_max_share", s.Eject.MaxShare)
	number("tier_min_usable", s.Tiers.MinUsable)
	dst = strconv.AppendBool(append(dst, `,"load_report":`...), bool(s.LoadReport.Enabled))
	number("queue_ms", float64(s.QueueMS))
	number("queue_max", float64(s.QueueMax))
	dst = appendLimit(dst, &s.Limit, l)
	return append(appendSplit(appendAffinity(dst, c), &split), '}')
}

// appendSplit says nothing where there is none.
func appendSplit(dst []byte, s *config.Split) []byte {
	if !s.On() {
		return dst
	}
	dst = jsonwrite.String(append(dst, `,"split":{"group":`...), s.Group)
	dst = jsonwrite.Number(append(dst, `,"share":`...), s.Share)
	dst = strconv.AppendBool(append(dst, `,"fallback":`...), bool(s.Fallback))
	if s.Key != "" {
		dst = jsonwrite.String(append(dst, `,"key":`...), s.Key)
	}
	if name, value := s.HeaderParts(); name != "" {
		dst = jsonwrite.String(append(dst, `,"header":`...), name)
		if value != "" {
			dst = jsonwrite.String(append(dst, `,"value":`...), value)
		}
	}
	return append(dst, '}')
}

// appendLimit says nothing where there is none.
func appendLimit(dst []byte, c *config.Limit, l Limit) []byte {
	if !l.On {
		return dst
	}
	dst = append(dst, `,"limit":{`...)
	if l.Max > 0 {
		part := 1 / float64(l.Sharers)
		dst = jsonwrite.Number(append(dst, `"max":`...), l.Max*part)
		dst = jsonwrite.Number(append(dst, `,"normal":`...), min(c.Normal*l.Max, l.Now)*part)
		dst = jsonwrite.Number(append(dst, `,"low":`...), c.Low*l.Now*part)
		dst = jsonwrite.Number(append(dst, `,"whole":`...), l.Max)
		dst = jsonwrite.Number(append(dst, `,"base_ms":`...), l.BaseMS)
	}
	return append(dst, '}')
}

// appendAffinity says nothing where there is none.
func appendAffinity(dst []byte, c *config.Pool) []byte {
	a := &c.Affinity
	if a.By == config.AffinityNone || a.By == "" {
		return dst
	}
	dst = jsonwrite.String(append(dst, `,"affinity":{"by":`...), string(a.By))
	dst = jsonwrite.Number(append(dst, `,"break_at":`...), a.BreakAt)
	if a.By == config.AffinityHash {
		dst = jsonwrite.String(append(dst, `,"key":`...), a.Key)
		dst = jsonwrite.Number(append(dst, `,"balance_factor":`...), a.BalanceFactor)
		return append(dst, '}')
	}
	dst = jsonwrite.String(append(dst, `,"cookie":{"name":`...), c.CookieName())
	dst = strconv.AppendInt(append(dst, `,"max_age":`...), int64(a.Cookie.TTLMS/1000), 10)
	dst = jsonwrite.String(append(dst, `,"path":`...), a.Cookie.Path)
	dst = jsonwrite.String(append(dst, `,"samesite":`...), string(a.Cookie.SameSite))
	dst = jsonwrite.String(append(dst, `,"secure":`...), string(a.Cookie.Secure))
	dst = strconv.AppendBool(append(dst, `,"httponly":`...), bool(a.Cookie.HTTPOnly))
	return append(dst, "}}"...)
}

// Decide returns the answer of /decide for a row of the table: a table without the pick. The bytes are shared and must
// not be changed. They are built when a class is asked for the first time after a publication; later calls only load a
// pointer.
func (s *Snapshot) Decide(class int) []byte {
	if built := s.rows[class].Load(); built != nil {
		return *built
	}
	b := make([]byte, 0, 256+len(s.meta)+12*decide.GridPoints*len(s.Peers))
	b = append(b, `{"protocol":1,"pool":`...)
	b = jsonwrite.String(b, s.Name)
	b = strconv.AppendUint(append(b, `,"version":`...), s.Version, 10)
	b = jsonwrite.String(append(b, `,"class":`...), s.shape.classes[class])
	b = s.appendPeers(append(b, `,"peers":`...))
	b = appendGrid(append(b, `,"grid":`...))
	b = appendCosts(append(b, `,"costs":`...), s.Table, class)
	b = append(append(b, `,"settings":`...), s.settings...)
	b = append(b, '}')
	s.rows[class].Store(&b)
	return b
}

// Watch returns the pool's object in an answer of /watch. The bytes are shared and must not be changed.
func (s *Snapshot) Watch() []byte {
	if built := s.watch.Load(); built != nil {
		return *built
	}
	// Most of it is numbers: a buffer that grows to hold them would be thrown away several times, ten times a second.
	numbers := len(s.Table.Cost)
	for _, part := range s.Table.Work.Parts() {
		numbers += len(part)
	}
	b := s.appendWatch(make([]byte, 0, 1024+len(s.meta)+len(s.shape.classesJSON)+base64.StdEncoding.EncodedLen(4*numbers)), false)
	s.watch.Store(&b)
	return b
}

// appendWatch appends the pool's object in an answer of /watch, with the costs readable or in base64.
func (s *Snapshot) appendWatch(dst []byte, readable bool) []byte {
	dst = jsonwrite.String(append(dst, `{"name":`...), s.Name)
	dst = strconv.AppendUint(append(dst, `,"version":`...), s.Version, 10)
	dst = strconv.AppendUint(append(dst, `,"meta_version":`...), s.MetaVersion, 10)
	dst = s.appendPeers(append(dst, `,"peers":`...))
	dst = append(append(dst, `,"classes":`...), s.shape.classesJSON...)
	dst = appendGrid(append(dst, `,"grid":`...))
	if readable {
		dst = append(dst, `,"costs":[`...)
		for c := range s.Table.Classes {
			if c > 0 {
				dst = append(dst, ',')
			}
			dst = appendCosts(dst, s.Table, c)
		}
		dst = append(dst, ']')
	} else {
		dst = append(appendFloats(append(dst, `,"cost":"`...), s.Table.Cost), '"')
	}
	if s.Table.Sized() {
		parts := s.Table.Work.Parts()
		dst = append(appendFloats(append(dst, `,"sizes":"`...), parts[:]...), '"')
	}
	dst = append(append(dst, `,"settings":`...), s.settings...)
	return append(dst, '}')
}

// Newer reports whether an answer of /watch to a client at (epoch, since) would have something in it.
func (s *State) Newer(epoch string, since uint64) bool {
	return epoch != s.Epoch || s.Version > since
}

// AppendWatch appends the answer of /watch to a client that has seen everything up to since in epoch: every pool that
// changed later, whole, and the names of those removed later. A client of another epoch gets every pool.
func (s *State) AppendWatch(dst []byte, epoch string, since uint64, readable bool) []byte {
	if epoch != s.Epoch {
		since = 0
	}
	dst = append(dst, `{"protocol":1,"epoch":`...)
	dst = jsonwrite.String(dst, s.Epoch)
	dst = strconv.AppendUint(append(dst, `,"version":`...), s.Version, 10)
	dst = strconv.AppendInt(append(dst, `,"refresh_ms":`...), int64(s.RefreshMS), 10)
	dst = append(dst, `,"accepts":[`...)
	for i, key := range observe.HeaderKeys() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = jsonwrite.String(dst, key)
	}
	dst = append(dst, `],"pools":[`...)
	n := 0
	for _, p := range s.Pools {
		if p.Version <= since || p.Pending {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		if readable {
			dst = p.appendWatch(dst, true)
		} else {
			dst = append(dst, p.Watch()...)
		}
	}
	dst = append(dst, `],"removed":[`...)
	n = 0
	for _, r := range s.Removed {
		if r.Version <= since || s.Pool(r.Name) != nil {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		}
		dst = jsonwrite.String(dst, r.Name)
	}
	dst = append(dst, ']')
	n = 0
	for _, p := range s.Pools {
		if !p.Pending {
			continue
		}
		if n++; n > 1 {
			dst = append(dst, ',')
		} else {
			dst = append(dst, `,"pending":[`...)
		}
		dst = jsonwrite.String(dst, p.Name)
	}
	if n > 0 {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}
