package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weirlb/weir/test/e2e/rig"
)

const service = "POST /grpc.testing.TestService/"

// grpcRig is a pool "api" of a and b behind grpc_pass, and a client that goes through NGINX. more is added to the http block.
func grpcRig(t *testing.T, settings string, more ...string) (*rig.Rig, grpc_testing.TestServiceClient) {
	t.Helper()
	addr := programs.FreeAddr(t)
	r := start(t, rig.Options{
		Tap: true, Pools: []rig.Pool{{Name: "api", Peers: []string{"a --slots 0", "b --slots 0"}, Settings: settings}},
		HTTP: strings.Join(more, "\n") + "\nserver { listen " + addr + " http2; location / { grpc_pass grpc://api; include " + programs.Repo + "/nginx/grpc.conf; } }",
	})
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return r, grpc_testing.NewTestServiceClient(conn)
}

func callContext(t *testing.T, workMS int) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rig.Patience)
	t.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "x-work-ms", fmt.Sprint(workMS))
}

func messages(sizes int32, n int, interval time.Duration) *grpc_testing.StreamingOutputCallRequest {
	q := &grpc_testing.StreamingOutputCallRequest{}
	for range n {
		q.ResponseParameters = append(q.ResponseParameters, &grpc_testing.ResponseParameters{Size: sizes, IntervalUs: int32(interval / time.Microsecond)})
	}
	return q
}

func TestGRPCCallsPassAndAreMeasured(t *testing.T) {
	t.Parallel()
	r, client := grpcRig(t, "")

	// a call with one answer: a request as any other, though it speaks a protocol of streams
	payload := &grpc_testing.Payload{Body: pattern(50_000)}
	for range 3 {
		answer, err := client.UnaryCall(callContext(t, 100), &grpc_testing.SimpleRequest{Payload: payload})
		if err != nil || string(answer.GetPayload().GetBody()) != string(payload.Body) {
			t.Fatalf("a call of 50000 bytes: %d came back, %v", len(answer.GetPayload().GetBody()), err)
		}
	}
	records := r.WaitRecords(3, func(rec rig.Record) bool { return strings.HasPrefix(rec.Class, service+"UnaryCall") })
	for _, rec := range records {
		// An answer that goes on for 100 ms after its header is taken for a stream: a busy machine may make one of a call, not of all.
		if rec.Flags&rig.FlagStream == 0 {
			wantPlain(r, []rig.Record{rec})
		} else if rec.TotalMS-rec.HeaderMS < 100 {
			t.Errorf("a call is reported as the stream %+v", rec)
		}
		if rec.HeaderMS < 90 {
			t.Errorf("a call that takes 100 ms is reported as %+v", rec)
		}
	}

	// a stream of answers: each reaches the client when it is sent
	stream, err := client.StreamingOutputCall(callContext(t, 0), messages(1000, 5, 150*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var first, last time.Time
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || len(m.GetPayload().GetBody()) != 1000 {
			t.Fatalf("message %d: %d bytes, %v", n, len(m.GetPayload().GetBody()), err)
		}
		if last = time.Now(); n == 0 {
			first = last
		}
		n++
	}
	if n != 5 || last.Sub(first) < 300*time.Millisecond {
		t.Errorf("%d messages, the last %v after the first, want 5 over 0.6 s", n, last.Sub(first))
	}
	for _, rec := range r.WaitRecords(1, func(rec rig.Record) bool { return strings.HasPrefix(rec.Class, service+"StreamingOutputCall") }) {
		if rec.Kind != rig.KindOK || rec.Flags&rig.FlagStream == 0 || rec.HeaderMS < 100 || rec.HeaderMS > rec.TotalMS-300 {
			t.Errorf("a stream of 0.75 s whose header came with the first message is reported as %+v", rec)
		}
	}

	// messages both ways on one call, while it is open
	both, err := client.FullDuplexCall(callContext(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := both.Send(messages(int32(10+i), 1, 50*time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if m, err := both.Recv(); err != nil || len(m.GetPayload().GetBody()) != 10+i {
			t.Fatalf("answer %d: %d bytes, %v", i, len(m.GetPayload().GetBody()), err)
		}
	}
	_ = both.CloseSend()
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last message: %v", err)
	}

	// a client whose deadline passes is one that leaves
	ctx, cancel := context.WithTimeout(callContext(t, 5000), 600*time.Millisecond) // in which the call must get as far as the peer
	defer cancel()
	if _, err := client.EmptyCall(ctx, &grpc_testing.Empty{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call over its deadline: %v", err)
	}
	r.WaitRecords(1, func(rec rig.Record) bool { return rec.Kind == rig.KindAbort && rec.Class == service+"EmptyCall" })
	wantNoFailures(r, "a", "b")
}

// A failed call has HTTP status 200. gRPC's own status stands in the trailers, or in the header of an answer without messages.
func TestAFailureOfGRPCIsAFailureOfItsPeer(t *testing.T) {
	t.Parallel()
	r, client := grpcRig(t, "eject: {consecutive: 0, failure_share: 0}")
	call := func(code codes.Code) {
		t.Helper()
		_, err := client.UnaryCall(callContext(t, 0), &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(code), Message: "as asked"}})
		if s := status.Convert(err); s.Code() != code || code != codes.OK && s.Message() != "as asked" {
			t.Errorf("the backend answered %v, the client got %v", code, err)
		}
	}
	want := map[[2]int]int{}
	for code, http := range map[codes.Code]int{
		codes.OK: 200, codes.NotFound: 200, codes.InvalidArgument: 200, codes.Unimplemented: 200, codes.Canceled: 200,
		codes.Unknown: 500, codes.DeadlineExceeded: 504, codes.ResourceExhausted: 429, codes.Internal: 500, codes.Unavailable: 503, codes.DataLoss: 500,
	} {
		kind := rig.KindOK
		if http != 200 {
			kind = rig.KindStatus
		}
		want[[2]int{kind, http}]++
		call(code)
	}
	got := map[[2]int]int{}
	for _, rec := range r.WaitRecords(11, func(rec rig.Record) bool { return true }) {
		got[[2]int{rec.Kind, rec.Status}]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("[kind status]: count are %v, want %v", got, want)
	}

	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(`{"fail":{"status":503,"share":1}}`)
	}
	if _, err := client.EmptyCall(callContext(t, 0), &grpc_testing.Empty{}); status.Code(err) != codes.Unavailable {
		t.Errorf("an answer of headers alone: %v", err)
	}
	for _, rec := range r.WaitRecords(1, class(service+"EmptyCall")) {
		if rec.Kind != rig.KindStatus || rec.Status != 503 {
			t.Errorf("it is reported as %+v", rec)
		}
	}
}

// A scanner may be the first to ask for the path of a call, and a class of the operator's may have requests of all kinds.
func TestAFailureOfGRPCIsFoundInAClassWhoseFirstRequestWasNoCall(t *testing.T) {
	t.Parallel()
	plain := programs.FreeAddr(t)
	r, client := grpcRig(t, "eject: {consecutive: 0, failure_share: 0}", "map '' $weir_class { default ''; '' all; }",
		`upstream plain { server 0.0.0.1; balancer_by_lua_block { require("resty.weir").balance("api") } }`, // which shares no connection with the calls
		"server { listen "+plain+"; keepalive_timeout 0; location / { proxy_pass http://plain; } }")
	for range 40 { // to all workers
		if _, err := rig.Read("http://" + plain + "/x"); err != nil {
			t.Fatal(err)
		}
	}
	for _, workMS := range []int{0, 50} { // a quick answer is judged another way than one that takes its time
		if _, err := client.UnaryCall(callContext(t, workMS), &grpc_testing.SimpleRequest{ResponseStatus: &grpc_testing.EchoStatus{Code: int32(codes.Unavailable)}}); status.Code(err) != codes.Unavailable {
			t.Errorf("the client got %v", err)
		}
	}
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(`{"fail":{"status":503,"share":1}}`)
	}
	if _, err := client.EmptyCall(callContext(t, 0), &grpc_testing.Empty{}); status.Code(err) != codes.Unavailable {
		t.Errorf("an answer of headers alone: %v", err)
	}
	failed := 0
	for _, rec := range r.WaitRecords(43, func(rec rig.Record) bool { return rec.Class == "all" }) {
		if rec.Kind == rig.KindStatus && rec.Status == 503 {
			failed++
		}
	}
	if failed != 3 {
		t.Errorf("%d of 3 failed calls are reported as failures", failed)
	}
}

// Calls hold a place on their peer while they run, as requests do; streams of calls do not.
func TestPlainGRPCCallsCountAsRequestsAndStreamsDoNot(t *testing.T) {
	t.Parallel()
	r, client := grpcRig(t, "explore: 0\ncontrol: 0\nslow_start_ms: 0")
	for range 6 { // so that the class is known for what it is
		if _, err := client.UnaryCall(callContext(t, 60), &grpc_testing.SimpleRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	r.WantIdle()
	done := make(chan error, 20)
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(`{"speed":0}`)
	}
	for range 20 {
		go func() {
			_, err := client.UnaryCall(callContext(t, 1), &grpc_testing.SimpleRequest{})
			done <- err
		}()
	}
	r.Eventually("20 calls are counted as requests on both peers", func() error {
		a, b := r.NGINX.Peer("api", "a"), r.NGINX.Peer("api", "b")
		if a.InFlight+b.InFlight != 20 || a.Streams+b.Streams != 0 || a.InFlight < 4 || b.InFlight < 4 {
			return fmt.Errorf("a %d (%d streams), b %d (%d streams)", a.InFlight, a.Streams, b.InFlight, b.Streams)
		}
		return nil
	})
	for _, b := range []string{"a", "b"} {
		r.Backend(b).Set(goOn)
	}
	for range 20 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	stream, err := client.StreamingOutputCall(callContext(t, 0), messages(10, 1000, 20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	r.Eventually("the stream is counted as one", func() error {
		a, b := r.NGINX.Peer("api", "a"), r.NGINX.Peer("api", "b")
		if a.InFlight+b.InFlight != 1 || a.Streams+b.Streams != 1 {
			return fmt.Errorf("a %+v, b %+v", a, b)
		}
		return nil
	})
}
