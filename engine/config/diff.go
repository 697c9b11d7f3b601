package config

import "slices"

// Equal tells whether two pools are the same in everything. The order of peers counts for nothing.
func (p *Pool) Equal(q *Pool) bool {
	if p.Name != q.Name || p.Settings != q.Settings || p.Split != q.Split || p.ShadowOf != q.ShadowOf || len(p.Peers) != len(q.Peers) || p.PeersFile != q.PeersFile ||
		!slices.Equal(p.Metrics, q.Metrics) ||
		!slices.EqualFunc(p.DNS, q.DNS, func(a, b DNS) bool { return a.Equal(&b) }) {
		return false
	}
	peers := make(map[string]Peer, len(p.Peers))
	for _, peer := range p.Peers {
		peers[peer.Address] = peer
	}
	for _, peer := range q.Peers {
		if was, ok := peers[peer.Address]; !ok || was != peer {
			return false
		}
	}
	return true
}

// Changes is what a reload has to do.
type Changes struct {
	Added, Removed, Changed []string // names of pools
	// Restart holds the keys that differ and take effect only at the next start.
	Restart []string
	// Live holds the other keys that differ outside pools.
	Live []string
}

// None tells whether there is nothing to do.
func (c Changes) None() bool {
	return len(c.Added)+len(c.Removed)+len(c.Changed)+len(c.Restart)+len(c.Live) == 0
}

// Diff tells what changed from one configuration to the next.
func Diff(from, to *Config) Changes {
	var c Changes
	for i := range to.Pools {
		switch old := from.Pool(to.Pools[i].Name); {
		case old == nil:
			c.Added = append(c.Added, to.Pools[i].Name)
		case !old.Equal(&to.Pools[i]):
			c.Changed = append(c.Changed, old.Name)
		}
	}
	for i := range from.Pools {
		if to.Pool(from.Pools[i].Name) == nil {
			c.Removed = append(c.Removed, from.Pools[i].Name)
		}
	}
	differ := func(into *[]string, key string, same bool) {
		if !same {
			*into = append(*into, key)
		}
	}
	differ(&c.Restart, "socket", from.Socket == to.Socket)
	differ(&c.Restart, "admin.listen", from.Admin.Listen == to.Admin.Listen)
	differ(&c.Restart, "state_file", from.StateFile == to.StateFile)
	differ(&c.Restart, "prometheus_url", from.PrometheusURL == to.PrometheusURL)
	differ(&c.Restart, "database", from.Database == to.Database)
	differ(&c.Restart, "history", from.History == to.History)
	differ(&c.Restart, "zone", from.Zone == to.Zone)
	differ(&c.Restart, "instance", from.Instance == to.Instance)
	differ(&c.Restart, "learn", from.Learn == to.Learn)
	differ(&c.Restart, "model.library", from.Model.Library == to.Model.Library)
	differ(&c.Live, "model.file", from.Model.File == to.Model.File)
	differ(&c.Live, "admin.token", from.Admin.Token == to.Admin.Token)
	differ(&c.Live, "log.level", from.Log.Level == to.Log.Level)
	differ(&c.Live, "refresh_ms", from.RefreshMS == to.RefreshMS)
	return c
}
