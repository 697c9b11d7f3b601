package rig

import (
	"encoding/json"
	"fmt"
	"io"
)

// Status is what /weir-status tells.
type Status struct {
	Pools map[string]PoolStatus `json:"pools"`
	// Leader is the pid of the worker that follows the engine.
	Leader int `json:"leader"`
	// Workers are the generations that have a row of counts.
	Workers []struct {
		PID      int  `json:"pid"`
		Row      int  `json:"row"`
		Alive    bool `json:"alive"`
		InFlight int  `json:"inflight"`
	} `json:"workers"`
	// Underflow is how often a count would have gone below 0.
	Underflow int `json:"underflow"`
	// Worker is what the worker that answered knows of itself.
	Worker struct {
		PID          int `json:"pid"`
		OpenRequests int `json:"open_requests"`
		Classes      int `json:"classes"`
		Records      struct {
			Buffered int `json:"buffered"`
			Sent     int `json:"sent"`
			Dropped  int `json:"dropped"`
		} `json:"records"`
	} `json:"worker"`
	Errors map[string]int `json:"errors"`
}

// InFlight is the count of all requests on all peers.
func (s Status) InFlight() (n int) {
	for _, w := range s.Workers {
		n += w.InFlight
	}
	return n
}

// PoolStatus is one pool of /weir-status.
type PoolStatus struct {
	Engine  string                                      `json:"engine"` // connected, stale, none
	Version int                                         `json:"version"`
	Policy  string                                      `json:"policy"`
	Limit   float64                                     `json:"limit"` // 0 = none is known
	Shed    struct{ High, Normal, Low, Full, Rate int } `json:"shed"`
	Classes []string                                    `json:"classes"`
	Peers   []PeerStatus                                `json:"peers"`
}

// PeerStatus is one peer of /weir-status.
type PeerStatus struct {
	Addr       string  `json:"addr"`
	InFlight   int     `json:"inflight"` // streams included
	Streams    int     `json:"streams"`
	Work       float64 `json:"work"` // of these, in mean requests; 0 in a pool without sizes
	Left       float64 `json:"left"` // of that, by reckoning; 0 in a pool without sizes
	State      string  `json:"state"`
	Usable     bool    `json:"usable"`
	Admit      float64 `json:"admit"`
	Picks      int     `json:"picks"`
	Fails      int     `json:"fails"` // in a row
	SetAsideMS float64 `json:"set_aside_ms"`
}

// Peer finds a peer by address; nil when there is none.
func (p PoolStatus) Peer(addr string) *PeerStatus {
	for i := range p.Peers {
		if p.Peers[i].Addr == addr {
			return &p.Peers[i]
		}
	}
	return nil
}

func (n *NGINX) status() (s Status, err error) {
	resp, err := n.web.Get("http://" + n.Addr + "/weir-status")
	if err != nil {
		return s, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("status %d: %w: %s", resp.StatusCode, err, text)
	}
	return s, nil
}

// Status reads /weir-status.
func (n *NGINX) Status() Status {
	n.rig.T.Helper()
	s, err := n.status()
	if err != nil {
		n.rig.T.Fatalf("/weir-status: %v", err)
	}
	return s
}

// Peer is the state of a backend in a pool. It waits until the backend is listed: without an engine a worker lists the pools it has served.
func (n *NGINX) Peer(pool, backend string) (peer PeerStatus) {
	n.rig.T.Helper()
	n.rig.Eventually("/weir-status lists "+backend+" in pool "+pool, func() error {
		s, err := n.status()
		if err != nil {
			return err
		}
		p := s.Pools[pool].Peer(n.rig.Addr(backend))
		if p == nil {
			return fmt.Errorf("%s is not in %+v", n.rig.Addr(backend), s.Pools[pool].Peers)
		}
		peer = *p
		return nil
	})
	return peer
}

// InFlight is the count of a backend in a pool.
func (n *NGINX) InFlight(pool, backend string) int {
	n.rig.T.Helper()
	return n.Peer(pool, backend).InFlight
}
