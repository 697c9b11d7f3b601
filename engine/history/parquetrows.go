package history

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/weirlb/weir/engine/observe"
)

// outcomeRow is an outcome with its series.
type outcomeRow struct {
	*Outcome
	of Series
}

func outcomeParquet() []parquetColumn[outcomeRow] {
	whole := func(name string, of func(*Outcome) int32) parquetColumn[outcomeRow] {
		return parquetColumn[outcomeRow]{name, parquetInt32, parquetNone, func(dst []byte, r outcomeRow) []byte {
			return binary.LittleEndian.AppendUint32(dst, uint32(of(r.Outcome)))
		}}
	}
	float := func(name string, of func(*Outcome) float32) parquetColumn[outcomeRow] {
		return parquetColumn[outcomeRow]{name, parquetFloat, parquetNone, func(dst []byte, r outcomeRow) []byte {
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(of(r.Outcome)))
		}}
	}
	return []parquetColumn[outcomeRow]{
		parquetLong("time", parquetMillis, func(r outcomeRow) int64 { return r.AtMS }),
		parquetText("pool", func(r outcomeRow) string { return r.of.Pool }),
		parquetText("peer", func(r outcomeRow) string { return r.of.Peer }),
		parquetText("class", func(r outcomeRow) string { return r.of.Class }),
		whole("attempt", func(o *Outcome) int32 { return int32(o.Attempt) }),
		parquetText("kind", func(r outcomeRow) string { return observe.Kind(r.Kind).String() }),
		whole("status", func(o *Outcome) int32 { return int32(o.Status) }),
		whole("flags", func(o *Outcome) int32 { return int32(o.Flags) }),
		whole("inflight", func(o *Outcome) int32 { return int32(o.Inflight) }),
		parquetLong("bytes", parquetNone, func(r outcomeRow) int64 { return int64(r.Bytes) }),
		float("propensity", func(o *Outcome) float32 { return o.Propensity }),
		float("header_ms", func(o *Outcome) float32 { return o.HeaderMS }),
		float("total_ms", func(o *Outcome) float32 { return o.TotalMS }),
		float("weight", func(o *Outcome) float32 { return o.Weight }),
		float("predicted_ms", func(o *Outcome) float32 { return o.PredictedMS }),
		float("load", func(o *Outcome) float32 { return o.Load }),
		float("rate", func(o *Outcome) float32 { return o.Rate }),
	}
}

func metricParquet() []parquetColumn[*MetricRow] {
	double := func(name string, of func(*MetricRow) float64) parquetColumn[*MetricRow] {
		return parquetColumn[*MetricRow]{name, parquetDouble, parquetNone, func(dst []byte, r *MetricRow) []byte {
			return binary.LittleEndian.AppendUint64(dst, math.Float64bits(of(r)))
		}}
	}
	return []parquetColumn[*MetricRow]{
		parquetLong("time", parquetMillis, func(r *MetricRow) int64 { return r.MinuteMS }),
		parquetText("pool", func(r *MetricRow) string { return r.Pool }),
		parquetText("peer", func(r *MetricRow) string { return r.Peer }),
		parquetText("metric", func(r *MetricRow) string { return r.Metric }),
		parquetLong("samples", parquetNone, func(r *MetricRow) int64 { return int64(r.Samples) }),
		double("mean", func(r *MetricRow) float64 { return r.Mean }),
		double("min", func(r *MetricRow) float64 { return r.Min }),
		double("max", func(r *MetricRow) float64 { return r.Max }),
	}
}

// OutcomeParquet writes outcomes, an attempt a row.
type OutcomeParquet struct{ *Parquet[outcomeRow] }

// NewOutcomeParquet begins a file. Close ends it; without that it cannot be read.
func NewOutcomeParquet(w io.Writer) OutcomeParquet {
	return OutcomeParquet{newParquet(w, "outcome", outcomeParquet())}
}

// Write adds outcomes.
func (p OutcomeParquet) Write(series []Series, outcomes []Outcome) error {
	for i := range outcomes {
		if err := p.Add(outcomeRow{&outcomes[i], series[outcomes[i].Series]}); err != nil {
			return err
		}
	}
	return nil
}

// NewMetricParquet begins a file of server metrics, a minute of one a row. Close ends it; without that it cannot be read.
func NewMetricParquet(w io.Writer) *Parquet[*MetricRow] {
	return newParquet(w, "metric", metricParquet())
}
