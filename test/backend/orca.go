package backend

import (
	"encoding/base64"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Report is a load report in the terms of ORCA (xds.data.orca.v3.OrcaLoadReport). A zero is not sent, but for Application in text and JSON.
type Report struct {
	Application float64            `json:"application_utilization,omitempty"`
	CPU         float64            `json:"cpu_utilization,omitempty"`
	Named       map[string]float64 `json:"named_metrics,omitempty"`
}

// Formats of load reports: the values of Settings.Reports.
const (
	ReportText = "orca"        // endpoint-load-metrics: TEXT ...
	ReportJSON = "orca-json"   // endpoint-load-metrics: JSON {...}
	ReportBin  = "orca-bin"    // endpoint-load-metrics: BIN base64
	ReportGRPC = "orca-header" // endpoint-load-metrics-bin: base64, as gRFC A51 has it
)

func reportFormats() []string { return []string{ReportText, ReportJSON, ReportBin, ReportGRPC} }

// Header is the report as a response header.
func (r Report) Header(format string) (name, value string) {
	const plain = "endpoint-load-metrics"
	switch format {
	case ReportJSON:
		return plain, "JSON " + r.json()
	case ReportBin:
		return plain, "BIN " + base64.StdEncoding.EncodeToString(r.wire())
	case ReportGRPC:
		return plain + "-bin", base64.RawStdEncoding.EncodeToString(r.wire()) // gRPC leaves the padding out
	}
	return plain, "TEXT " + strings.Join(r.fields("", "="), ", ")
}

// fields are the metrics as NAME, then as, then VALUE, in a fixed order.
func (r Report) fields(quote, as string) (all []string) {
	add := func(name string, x float64) {
		if x != 0 || name == "application_utilization" {
			all = append(all, quote+name+quote+as+strconv.FormatFloat(x, 'g', -1, 64))
		}
	}
	add("application_utilization", r.Application)
	add("cpu_utilization", r.CPU)
	if quote != "" {
		return all
	}
	for _, name := range slices.Sorted(maps.Keys(r.Named)) {
		all = append(all, "named_metrics."+name+as+strconv.FormatFloat(r.Named[name], 'g', -1, 64))
	}
	return all
}

func (r Report) json() string {
	all := r.fields(`"`, ":")
	if len(r.Named) > 0 {
		var named []string
		for _, name := range slices.Sorted(maps.Keys(r.Named)) {
			named = append(named, fmt.Sprintf("%q:%s", name, strconv.FormatFloat(r.Named[name], 'g', -1, 64)))
		}
		all = append(all, `"named_metrics":{`+strings.Join(named, ",")+"}")
	}
	return "{" + strings.Join(all, ",") + "}"
}

// wire is the protobuf: cpu_utilization = 1, named_metrics = 8 (a map to double), application_utilization = 9.
func (r Report) wire() (b []byte) {
	double := func(b []byte, n protowire.Number, x float64) []byte {
		return protowire.AppendFixed64(protowire.AppendTag(b, n, protowire.Fixed64Type), math.Float64bits(x))
	}
	if r.CPU != 0 {
		b = double(b, 1, r.CPU)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Named)) {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
		b = protowire.AppendBytes(protowire.AppendTag(b, 8, protowire.BytesType), double(entry, 2, r.Named[name]))
	}
	if r.Application != 0 {
		b = double(b, 9, r.Application)
	}
	return b
}

// report is what the backend says of itself now: the share of its workers that is busy, and the requests it holds without the one that is
// being answered.
func (b *Backend) report() Report {
	use, held := b.queue.load()
	return Report{Application: math.Round(use*1000) / 1000, Named: map[string]float64{"in_flight": float64(held)}}
}
