package serve

import (
	"sync/atomic"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/decide"
	"github.com/weirlb/weir/engine/jsonwrite"
)

// Protocol is the version of docs/protocol.md that the engine speaks.
const Protocol = 1

// State is everything the engine has published, at one instant. It is never changed: a publication makes a new one, so that
// readers take no lock. Epoch and version identify it; Next is closed when a newer one exists.
type State struct {
	Epoch     string
	Version   uint64
	RefreshMS int
	Pools     []*Snapshot // in the order of the configuration
	Removed   []Removed   // pools removed since the epoch began, oldest first

	index map[string]int // of Pools by name; shared by states with the same pools
	next  chan struct{}
}

// Removed is a pool that is no more.
type Removed struct {
	Name    string
	Version uint64 // of the state that lacked it first
}

// maxRemoved bounds State.Removed. Past it a new epoch begins, which makes every watcher start over.
const maxRemoved = 1024

// Pool returns the snapshot of a pool, nil when there is none.
func (s *State) Pool(name string) *Snapshot {
	if i, ok := s.index[name]; ok {
		return s.Pools[i]
	}
	return nil
}

// PoolBytes is Pool without making a string of the name.
func (s *State) PoolBytes(name []byte) *Snapshot {
	if i, ok := s.index[string(name)]; ok {
		return s.Pools[i]
	}
	return nil
}

// Names lists the pools.
func (s *State) Names() []string {
	names := make([]string, len(s.Pools))
	for i, p := range s.Pools {
		names[i] = p.Name
	}
	return names
}

// Next is closed when a newer state is published.
func (s *State) Next() <-chan struct{} { return s.next }

// Snapshot is the published state of one pool: its peers, its table and its settings. It is never changed.
type Snapshot struct {
	Name        string
	Version     uint64 // of the state that had it first
	MetaVersion uint64 // of the state that changed anything but costs last
	Peers       []Peer
	Table       *decide.Table // shared by snapshots that differ in meta only
	Settings    config.Settings
	Policy      string
	Panic       bool
	Limit       Limit
	Pending     bool // who is in it, or who is well, is not known yet: NGINX is told to keep what it knows

	shape    *shape
	meta     []byte                   // JSON of peers and settings; what it says decides MetaVersion
	settings []byte                   // JSON of the settings
	rows     []atomic.Pointer[[]byte] // answers of /decide by class, built when first asked for
	watch    atomic.Pointer[[]byte]   // the pool's object in an answer of /watch, built when first asked for
}

// Limit is the adaptive limit of a pool as NGINX is told of it.
type Limit struct {
	On      bool
	Max     float64 // requests in flight over all NGINX; 0 = none is known
	Now     float64 // the same at this moment, for all but high priority: less while the limiter looks what the latency does
	BaseMS  float64 // latency without a queue
	Sharers int     // NGINX that share it
}

// Peer is a peer as NGINX is told of it.
type Peer struct {
	Addr    string
	State   string
	Usable  bool
	Drained bool // by the operator's wish; such a peer may be usable when nothing else is
	Admit   float64
	Weight  float64
	Tier    int     // 0 = primary
	Away    float64 // share by which another zone makes it dearer
	Group   string  // "" = none
	Cap     int     // most requests in flight from one NGINX; 0 = no bound
	Needed  bool    // the others could not carry the pool's traffic without it
	Keeps   bool    // out of use in good health: clients whose cookie names it may still go there

	inflight *atomic.Int64 // owned by the pool's member; the one part that is live
}

// Inflight returns the requests in flight on the peer as last reported, over all NGINX.
func (p *Peer) Inflight() int { return int(p.inflight.Load()) }

// shape is what snapshots share as long as peers and classes stay: the lookups and the JSON made of their names.
type shape struct {
	peers, classes []string
	classAt        map[string]int
	peersJSON      [][]byte // quoted addresses
	classesJSON    []byte   // the list
}

func newShape(peers, classes []string) *shape {
	s := &shape{
		peers: append([]string(nil), peers...), classes: append([]string(nil), classes...),
		classAt: make(map[string]int, len(classes)),
	}
	for _, addr := range s.peers {
		s.peersJSON = append(s.peersJSON, jsonwrite.String(nil, addr))
	}
	s.classesJSON = append(s.classesJSON, '[')
	for i, name := range s.classes {
		if _, twice := s.classAt[name]; !twice {
			s.classAt[name] = i
		}
		if i > 0 {
			s.classesJSON = append(s.classesJSON, ',')
		}
		s.classesJSON = jsonwrite.String(s.classesJSON, name)
	}
	s.classesJSON = append(s.classesJSON, ']')
	return s
}

// Class returns the row of a class; an unknown class has the row of "*", 0.
func (s *Snapshot) Class(name []byte) int { return s.shape.classAt[string(name)] }

// ClassName returns the name of a row.
func (s *Snapshot) ClassName(c int) string { return s.shape.classes[c] }

// Candidates appends the peers as decide.Pick wants them. inflight, when not nil, replaces what NGINX reported.
func (s *Snapshot) Candidates(dst []decide.Candidate, inflight map[string]float64) []decide.Candidate {
	for i := range s.Peers {
		p := &s.Peers[i]
		c := decide.Candidate{InFlight: float64(p.Inflight()), Usable: p.Usable, Admit: p.Admit, Weight: p.Weight / (1 + p.Away)}
		if inflight != nil {
			c.InFlight = inflight[p.Addr]
		}
		dst = append(dst, c)
	}
	return dst
}
