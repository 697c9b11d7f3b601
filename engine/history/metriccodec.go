package history

import (
	"encoding/binary"
	"math"
)

// AppendValues appends a row's values behind a number that stands for its series, as the embedded store keeps them.
func (r *MetricRow) AppendValues(w []byte, series uint64) []byte {
	w = binary.AppendUvarint(binary.AppendUvarint(w, series), r.Samples)
	for _, x := range [...]float64{r.Mean, r.Min, r.Max} {
		w = binary.LittleEndian.AppendUint64(w, math.Float64bits(x))
	}
	return w
}

// DecodeValues reads what AppendValues wrote, one after the other. The row has the values only, and is valid during the call.
func DecodeValues(data []byte, yield func(series uint64, row *MetricRow) error) error {
	r := reader{data: data}
	var row MetricRow
	for len(r.data) > 0 {
		series := r.uvarint()
		r.values(&row)
		if r.err != nil {
			return r.err
		}
		if err := yield(series, &row); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) values(row *MetricRow) {
	row.Samples = r.uvarint()
	fixed := r.bytes(24)
	if r.err != nil {
		return
	}
	for i, x := range [...]*float64{&row.Mean, &row.Min, &row.Max} {
		*x = math.Float64frombits(binary.LittleEndian.Uint64(fixed[8*i:]))
	}
}

// appendMetrics ends a batch. One without metrics has nothing there, as those of a weir before metrics were kept.
func appendMetrics(w []byte, list []MetricRow) []byte {
	if len(list) == 0 {
		return w
	}
	w = binary.AppendUvarint(w, uint64(len(list)))
	for i := range list {
		m := &list[i]
		w = appendText(appendText(appendText(w, m.Pool), m.Peer), m.Metric)
		w = m.AppendValues(w, uint64(m.MinuteMS))
	}
	return w
}

func (r *reader) metrics(into []MetricRow) []MetricRow {
	if r.err != nil || len(r.data) == 0 {
		return into
	}
	for range r.count() {
		m := MetricRow{MetricSeries: MetricSeries{Pool: r.text(), Peer: r.text(), Metric: r.text()}, MinuteMS: int64(r.uvarint())}
		r.values(&m)
		if r.err != nil {
			break
		}
		into = append(into, m)
	}
	return into
}
