// Package split is the rule of a canary's split: to which side of its pool a request goes (docs/canary.md).
//
// NGINX decides, by lua/resty/weir/split.lua; this is the same rule, for people who ask on which side a client is, and for the tests: vectors made
// here (test/vectors/split.json) hold the Lua to it. Pure.
package split

// Side is one of the two parts of a pool.
type Side int

// The sides; the numbers are those of pick.lua.
const (
	Rest Side = iota
	Group
)

// Rule is a pool's split.
type Rule struct {
	Share    float64 // of the requests, or of the keys, that go to the group
	Fallback bool    // requests of one side may go to the other
}

// Request is what the rule asks of one attempt of a request.
type Request struct {
	Again  bool    // there was an attempt before
	Before Side    // of that
	Header bool    // it has the header that sends requests to the group
	Keyed  bool    // the pool has a key, and the request's is not empty
	At     float64 // in [0, 1): Place of its key; without one, a draw
}

// Choice is what becomes of it.
type Choice struct {
	Side     Side
	ByHeader bool
	Firm     bool // a client that is bound to a peer of the other side leaves it
}

// Side decides for one attempt. A further attempt goes to the rest whatever the first was meant for: what fails in the group is made good by peers
// that are known, and no retry adds to its share. Without fallback it stays on its side.
func (r Rule) Side(q Request) Choice {
	switch {
	case q.Again && r.Fallback:
		return Choice{Side: Rest}
	case q.Again:
		return Choice{Side: q.Before}
	case q.Header:
		return Choice{Side: Group, ByHeader: true, Firm: true}
	}
	c := Choice{Firm: q.Keyed || r.Share <= 0 || r.Share >= 1}
	if q.At < r.Share {
		c.Side = Group
	}
	return c
}

// mostHashed is how many bytes of each part of a key are hashed.
const mostHashed = 4096

// Place tells where in [0, 1) a key falls: a share contains what lies below it. So a key that is in the group remains in it as the share grows. Pools
// draw apart. The parts are those of the key's text: variables and what stands between them; they count as if they were one text.
func Place(pool string, parts ...string) float64 {
	h := add(0, pool)
	for _, p := range parts {
		h = add(h, p)
	}
	h += h << 3
	h ^= h >> 11
	h += h << 15
	return float64(mix(h)+1<<31) / (1 << 32) // the Lua's integers have a sign: its least one is 0 here
}

// add is one-at-a-time (Jenkins, 1997), without its end.
func add(h uint32, s string) uint32 {
	for i := range min(len(s), mostHashed) {
		h += uint32(s[i])
		h += h << 10
		h ^= h >> 6
	}
	return h
}

// mix is an integer hash of 32 bits (Jenkins) of shifts and additions only, which Lua can do without products that do not fit a double.
func mix(a uint32) uint32 {
	a = (a + 0x7ed55d16) + a<<12
	a = (a ^ 0xc761c23c) ^ a>>19
	a = (a + 0x165667b1) + a<<5
	a = (a + 0xd3a2646c) ^ a<<9
	a = (a + 0xfd7046c5) + a<<3
	return (a ^ 0xb55a4f09) ^ a>>16
}
