// Package sqlrows is what the stores on SQL servers (postgres, mysql) have in common: names that become numbers, outcomes in the order of
// time, tables in pieces.
package sqlrows

import "github.com/weirlb/weir/engine/history"

// NoID marks a name that the server refused, or that no store could hold.
const NoID = -1

// Names knows the ids of names that rows are about, so that a row costs no look-up. Not safe for concurrent use.
type Names[K comparable] struct {
	ids map[K]int32
	bad map[K]bool // that the server refuses
}

// IDs returns the id of each name, NoID where there is none; insert makes one, or finds the one that is there. refused tells an error
// about the name from one about the server.
func (n *Names[K]) IDs(keys []K, insert func(K) (int32, error), refused func(error) bool) ([]int32, error) {
	if n.ids == nil {
		n.ids, n.bad = map[K]int32{}, map[K]bool{}
	}
	var none K
	out := make([]int32, len(keys))
	for i, key := range keys {
		id, known := n.ids[key]
		switch {
		case key == none || n.bad[key]:
			id = NoID
		case !known:
			if len(n.ids)+len(n.bad) > history.MaxSeries {
				n.Forget()
			}
			var err error
			switch id, err = insert(key); {
			case err == nil:
				n.ids[key] = id
			case refused(err):
				id = NoID
				n.bad[key] = true
			default:
				return nil, err
			}
		}
		out[i] = id
	}
	return out, nil
}

// Forget drops all: a server that crashed may have lost what it had answered.
func (n *Names[K]) Forget() {
	clear(n.ids)
	clear(n.bad)
}

// Insert makes a row of names in a table with the column id, or finds the one that is there, and returns its id.
type Insert func(table string, columns []string, names ...any) (int32, error)

// LookUp knows the ids of what a batch is about, on a server with the tables weir_engine, weir_series and weir_metric_series. The zero
// value is ready. Not safe for concurrent use.
type LookUp struct {
	engines map[[2]string]int32
	series  Names[history.Series]
	metrics Names[history.MetricSeries]
}

// IDs are the server's numbers for what a batch is about.
type IDs struct {
	Engine  int32
	Series  []int32 // by the index into the batch's
	Metrics []int32 // by row
}

// Batch returns the ids of a batch, and drops and counts the rows whose names the server refuses: one name must not undo the rest. Names
// are made before the batch, each by itself: two engines that meet the same new series must not wait for each other's batch.
func (l *LookUp) Batch(b *history.Batch, insert Insert, refused func(error) bool) (ids IDs, bad int, err error) {
	if ids.Engine, err = l.engine([2]string{b.Instance, b.Zone}, insert); err != nil {
		return IDs{}, 0, err
	}
	ids.Series, err = l.series.IDs(b.Series, func(s history.Series) (int32, error) {
		return insert("weir_series", []string{"pool", "peer", "class"}, s.Pool, s.Peer, s.Class)
	}, refused)
	if err != nil {
		return IDs{}, 0, err
	}
	ids.Metrics, err = l.metrics.IDs(metricSeries(b.Metrics), func(m history.MetricSeries) (int32, error) {
		return insert("weir_metric_series", []string{"pool", "peer", "metric"}, m.Pool, m.Peer, m.Metric)
	}, refused)
	if err != nil {
		return IDs{}, 0, err
	}
	return ids, dropRefused(b, &ids), nil
}

func (l *LookUp) engine(who [2]string, insert Insert) (id int32, err error) {
	id, known := l.engines[who]
	if known {
		return id, nil
	}
	if id, err = insert("weir_engine", []string{"instance", "zone"}, who[0], who[1]); err != nil {
		return 0, err
	}
	if l.engines == nil {
		l.engines = map[[2]string]int32{}
	}
	l.engines[who] = id
	return id, nil
}

// Forget drops all: a server that crashed may have lost what it had answered.
func (l *LookUp) Forget() {
	clear(l.engines)
	l.series.Forget()
	l.metrics.Forget()
}

func metricSeries(list []history.MetricRow) []history.MetricSeries {
	out := make([]history.MetricSeries, len(list))
	for i := range list {
		out[i] = list[i].MetricSeries
	}
	return out
}

// dropRefused drops rows of names without an id.
func dropRefused(b *history.Batch, ids *IDs) (bad int) {
	before := b.Rows()
	outcomes := b.Outcomes[:0]
	for _, o := range b.Outcomes {
		if ids.Series[o.Series] != NoID {
			outcomes = append(outcomes, o)
		}
	}
	rollups := b.Rollups[:0]
	for _, r := range b.Rollups {
		if ids.Series[r.Series] != NoID {
			rollups = append(rollups, r)
		}
	}
	metrics, of := b.Metrics[:0], ids.Metrics[:0]
	for i, id := range ids.Metrics {
		if id != NoID {
			metrics, of = append(metrics, b.Metrics[i]), append(of, id)
		}
	}
	b.Outcomes, b.Rollups, b.Metrics, ids.Metrics = outcomes, rollups, metrics, of
	return before - b.Rows()
}
