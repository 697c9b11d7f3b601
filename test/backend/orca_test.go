package backend

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// orcaMessage is xds.data.orca.v3.OrcaLoadReport as cncf/xds declares it, so that the protobuf library itself can judge what Weir reads and what
// the backend writes.
func orcaMessage(t *testing.T) protoreflect.MessageDescriptor {
	t.Helper()
	field := func(name, camel string, n int32, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: &name, JsonName: &camel, Number: &n, Type: kind.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	const double = descriptorpb.FieldDescriptorProto_TYPE_DOUBLE
	m := &descriptorpb.DescriptorProto{Name: proto.String("OrcaLoadReport"), Field: []*descriptorpb.FieldDescriptorProto{
		field("cpu_utilization", "cpuUtilization", 1, double), field("mem_utilization", "memUtilization", 2, double),
		field("rps", "rps", 3, descriptorpb.FieldDescriptorProto_TYPE_UINT64), field("rps_fractional", "rpsFractional", 6, double),
		field("eps", "eps", 7, double), field("application_utilization", "applicationUtilization", 9, double),
	}}
	for n, name := range map[int32][3]string{4: {"request_cost", "requestCost", "RequestCostEntry"}, 5: {"utilization", "utilization", "UtilizationEntry"}, 8: {"named_metrics", "namedMetrics", "NamedMetricsEntry"}} {
		m.NestedType = append(m.NestedType, &descriptorpb.DescriptorProto{
			Name: proto.String(name[2]), Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)},
			Field: []*descriptorpb.FieldDescriptorProto{field("key", "key", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING), field("value", "value", 2, double)},
		})
		f := field(name[0], name[1], n, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE)
		f.Label, f.TypeName = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum(), proto.String(".xds.data.orca.v3.OrcaLoadReport."+name[2])
		m.Field = append(m.Field, f)
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("orca.proto"), Package: proto.String("xds.data.orca.v3"), Syntax: proto.String("proto3"), MessageType: []*descriptorpb.DescriptorProto{m},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

// decode reads a header's value in JSON or protobuf with the library. ok: the value is in one of these.
func decode(desc protoreflect.MessageDescriptor, value string, bin bool) (m *dynamicpb.Message, ok bool, err error) {
	m = dynamicpb.NewMessage(desc)
	if text, is := strings.CutPrefix(value, "JSON "); is && !bin {
		return m, true, protojson.Unmarshal([]byte(text), m)
	}
	text, is := strings.CutPrefix(value, "BIN ")
	if !is && !bin {
		return m, false, nil
	}
	raw, err := base64.StdEncoding.DecodeString(text + strings.Repeat("=", (4-len(text)%4)%4))
	if err == nil && len(raw) == 0 {
		err = fmt.Errorf("no bytes") // Envoy takes that for a fault too
	}
	if err == nil {
		err = proto.Unmarshal(raw, m)
	}
	return m, true, err
}

func useAndHeld(m *dynamicpb.Message) (use, held float64) {
	get := func(name protoreflect.Name) float64 { return m.Get(m.Descriptor().Fields().ByName(name)).Float() }
	if use = get("application_utilization"); use == 0 {
		use = get("cpu_utilization")
	}
	held = -1
	named := m.Get(m.Descriptor().Fields().ByName("named_metrics")).Map()
	for _, key := range []string{"in_flight", "inflight"} {
		if v := named.Get(protoreflect.ValueOfString(key).MapKey()); v.IsValid() {
			held = v.Float()
		}
	}
	return use, held
}

// The vectors are what lua/resty/weir/orca.lua is held to (test/lua/orca_spec.lua). Here the protobuf library says whether they are right.
func TestTheSharedVectorsOfLoadReportsAreWhatTheProtobufLibrarySays(t *testing.T) {
	text, err := os.ReadFile("../vectors/orca.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Why, Value, Error string
		Bin, Stricter     bool // Stricter: what protobuf skips
		Use, Held         float64
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	desc, judged := orcaMessage(t), 0
	for _, v := range vectors {
		m, ok, err := decode(desc, v.Value, v.Bin)
		if !ok {
			continue
		}
		judged++
		if v.Error != "" {
			// What protobuf allows and Weir does not: the last of two counts, NaN, negative, anything for a number.
			strict := v.Error == "json" || v.Error == "base64" || v.Error == "protobuf" || v.Error == "unknown" || v.Error == "number"
			if err == nil && strict && !v.Stricter {
				t.Errorf("%s: %q is refused as %s, and the library reads it", v.Why, v.Value, v.Error)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %q: %v", v.Why, v.Value, err)
			continue
		}
		if use, held := useAndHeld(m); use != max(v.Use, 0) || held != v.Held {
			t.Errorf("%s: %q is %v and %v, the library says %v and %v", v.Why, v.Value, v.Use, v.Held, use, held)
		}
	}
	if judged < 50 {
		t.Errorf("only %d vectors were judged", judged)
	}
}

func TestAReportSaysTheSameInEachFormat(t *testing.T) {
	desc := orcaMessage(t)
	r := Report{Application: 0.375, CPU: 0.25, Named: map[string]float64{"in_flight": 12, "a": -1}}
	for _, format := range reportFormats() {
		name, value := r.Header(format)
		if format == ReportText {
			if want := "TEXT application_utilization=0.375, cpu_utilization=0.25, named_metrics.a=-1, named_metrics.in_flight=12"; value != want {
				t.Errorf("%s", value)
			}
			continue
		}
		m, ok, err := decode(desc, value, strings.HasSuffix(name, "-bin"))
		if use, held := useAndHeld(m); !ok || err != nil || use != 0.375 || held != 12 {
			t.Errorf("%s: %s: %q is %v and %v, %v", format, name, value, use, held, err)
		}
	}
}
