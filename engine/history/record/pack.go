package record

import (
	"math/rand/v2"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/observe"
)

// maxBatch bounds the outcomes of a batch, and so what one write to a store holds up.
const maxBatch = 20_000

// maxRollups bounds the rollups of a batch. A large pool has ten thousand a minute, and every batch is in memory several times over: as
// rows, encoded, compressed, handed over.
const maxRollups = 2048

// graceMS is how long after its end a minute is still counted into: outcomes are reported some hundred milliseconds late. What
// comes later still makes a rollup of its own.
const graceMS = 5000

// packer makes batches of what was queued. The writer owns it.
type packer struct {
	above   float64 // outcomes a second
	minutes *history.Minutes
	metrics history.MetricMinutes
	random  *rand.Rand
	known   []bool // by series: it can be stored
	place   []int32
	batch   history.Batch
}

func newPacker(above float64) packer {
	return packer{above: above, minutes: history.NewMinutes(), random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
}

// rate is the share of successes to be kept of what came in seconds, so that no more than above a second are kept in all.
// Failures are kept and count; when there are more of them than that, successes still get a tenth of it, so that what is kept
// can say what was normal.
func (p *packer) rate(list []Observed, seconds float64) float32 {
	if p.above <= 0 {
		return 1
	}
	failures := 0
	for i := range list {
		if observe.Kind(list[i].Kind).Failure() {
			failures++
		}
	}
	budget := p.above * max(seconds, flushEvery.Seconds())
	successes := float64(len(list) - failures)
	if successes <= 0 || float64(len(list)) <= budget {
		return 1
	}
	return float32(min(1, max(budget-float64(failures), budget/10)/successes))
}

// make cuts the list, whose oldest entry is at the index at, into batches and hands each to send. What follows the outcomes goes with the
// last of them and into batches after it: the rollups of minutes that are over, and events. Series that no store can hold cost their outcomes.
func (p *packer) make(list []Observed, at int, events []history.Event, values []Measured, seconds float64, nowMS int64, send func(*history.Batch)) (bad, sampledOut int) {
	rate := p.rate(list, seconds)
	p.reset()
	for k := range list {
		o := &list[(at+k)%len(list)]
		series := p.index(o.Series)
		if !p.known[series] {
			bad++
			continue
		}
		kept := o.Outcome
		kept.Series = series
		p.minutes.Add(&kept)
		if kept.Rate = 1; rate < 1 && !observe.Kind(kept.Kind).Failure() {
			if kept.Rate = rate; p.random.Float32() >= rate {
				sampledOut++
				continue
			}
		}
		kept.Series = p.put(series)
		p.batch.Outcomes = append(p.batch.Outcomes, kept)
		if len(p.batch.Outcomes) >= maxBatch {
			send(&p.batch)
			p.reset()
		}
	}
	for i := range values {
		if !p.metrics.Add(values[i].MetricSeries, values[i].AtMS, values[i].Value) {
			bad++
		}
	}
	end := nowMS - graceMS
	p.batch.Metrics = p.metrics.Take(p.batch.Metrics[:0], end)
	if p.minutes.Full() {
		end = 1 << 62
	}
	for part := range p.minutes.Take(end, maxRollups) {
		for i := range part {
			part[i].Series = p.put(part[i].Series)
		}
		p.batch.Rollups = part // valid until the next part
		if len(part) == maxRollups {
			send(&p.batch)
			p.reset()
		}
	}
	p.batch.Events = append(p.batch.Events[:0], events...)
	if p.batch.Rows() > 0 {
		send(&p.batch)
	}
	p.reset()
	if p.minutes.Full() {
		p.minutes.Forget()
		p.known, p.place = p.known[:0], p.place[:0]
	}
	return bad, sampledOut
}

// reset empties the batch.
func (p *packer) reset() {
	for i := range p.place {
		p.place[i] = -1
	}
	p.batch.Series, p.batch.Outcomes = p.batch.Series[:0], p.batch.Outcomes[:0]
	p.batch.Rollups, p.batch.Events, p.batch.Metrics = p.batch.Rollups[:0], p.batch.Events[:0], p.batch.Metrics[:0]
}

// index returns the number of a series in minutes.
func (p *packer) index(s history.Series) uint32 {
	i := p.minutes.Index(s)
	for len(p.known) < p.minutes.Known() {
		s := p.minutes.Series(uint32(len(p.known)))
		p.known = append(p.known, s.Pool != "" && s.Peer != "" && history.Storable(s.Pool) && history.Storable(s.Peer) && history.Storable(s.Class))
		p.place = append(p.place, -1)
	}
	return i
}

// put returns the place of a series in the batch.
func (p *packer) put(series uint32) uint32 {
	if p.place[series] < 0 {
		p.place[series] = int32(len(p.batch.Series))
		p.batch.Series = append(p.batch.Series, p.minutes.Series(series))
	}
	return uint32(p.place[series])
}
