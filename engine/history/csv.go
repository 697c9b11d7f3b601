package history

import (
	"strconv"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/observe"
)

// CSVHeader is the first line of exported outcomes.
const CSVHeader = "time,at_ms,pool,peer,class,attempt,kind,status,flags,inflight,bytes,propensity,header_ms,total_ms,weight,predicted_ms,load,rate\n"

// AppendCSV appends the outcome as a line of CSV.
func (o *Outcome) AppendCSV(dst []byte, s Series) []byte {
	dst = time.UnixMilli(o.AtMS).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
	dst = strconv.AppendInt(append(dst, ','), o.AtMS, 10)
	for _, text := range [...]string{s.Pool, s.Peer, s.Class} {
		dst = appendCSVText(append(dst, ','), text)
	}
	dst = strconv.AppendUint(append(dst, ','), uint64(o.Attempt), 10)
	dst = append(append(dst, ','), observe.Kind(o.Kind).String()...)
	for _, n := range [...]uint64{uint64(o.Status), uint64(o.Flags), uint64(o.Inflight), uint64(o.Bytes)} {
		dst = strconv.AppendUint(append(dst, ','), n, 10)
	}
	for _, x := range [...]float32{o.Propensity, o.HeaderMS, o.TotalMS, o.Weight, o.PredictedMS, o.Load, o.Rate} {
		dst = strconv.AppendFloat(append(dst, ','), float64(x), 'g', -1, 32)
	}
	return append(dst, '\n')
}

// appendCSVText quotes where RFC 4180 wants it.
func appendCSVText(dst []byte, s string) []byte {
	if !strings.ContainsAny(s, ",\"\r\n") && (s == "" || s[0] != ' ') {
		return append(dst, s...)
	}
	dst = append(dst, '"')
	dst = append(dst, strings.ReplaceAll(s, `"`, `""`)...)
	return append(dst, '"')
}
