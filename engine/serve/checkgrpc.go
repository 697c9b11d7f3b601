package serve

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"google.golang.org/protobuf/encoding/protowire"
)

// gRPC's health service (grpc.health.v1.Health/Check, https://github.com/grpc/grpc/blob/master/doc/health-checking.md), asked with the HTTP/2
// client that is there: two messages of one field each need no gRPC library in the engine.

// serving are the names of HealthCheckResponse.ServingStatus.
var serving = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// askGRPC asks the server at base for the health of a service; "" is the server as a whole. An error means that no answer came.
func askGRPC(ctx context.Context, via http.RoundTripper, base *url.URL, service string) (pass bool, detail string, err error) {
	var question []byte
	if service != "" {
		question = protowire.AppendTag(question, 1, protowire.BytesType)
		question = protowire.AppendString(question, service)
	}
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(question)))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base.String()+"/grpc.health.v1.Health/Check", bytes.NewReader(append(frame, question...)))
	if err != nil {
		return false, "", err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {"weir-check"}}
	res, err := via.RoundTrip(req)
	if err != nil {
		return false, "", err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return false, "", err
	}
	status := res.Header.Get("Grpc-Status") // of an answer without a message
	if status == "" {
		status = res.Trailer.Get("Grpc-Status")
	}
	switch {
	case res.StatusCode != http.StatusOK || status == "":
		return false, fmt.Sprintf("HTTP status %d and no gRPC status: this is no gRPC server", res.StatusCode), nil
	case status == "12":
		return false, "the server has no service grpc.health.v1.Health (gRPC status 12)", nil
	case status != "0":
		return false, fmt.Sprintf("gRPC status %.16q", status), nil
	}
	n, ok := servingStatus(answer)
	if !ok {
		return false, "the answer is none of grpc.health.v1.Health", nil
	}
	name := fmt.Sprint(n)
	if n < uint64(len(serving)) {
		name = serving[n]
	}
	return n == 1, name, nil
}

// servingStatus reads the one field of a HealthCheckResponse out of its frame; a message without it says 0.
func servingStatus(frame []byte) (status uint64, ok bool) {
	if len(frame) < 5 || frame[0] != 0 || int(binary.BigEndian.Uint32(frame[1:])) != len(frame)-5 {
		return 0, false
	}
	for b := frame[5:]; len(b) > 0; {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, false
		}
		b = b[n:]
		if number == 1 && kind == protowire.VarintType {
			if status, n = protowire.ConsumeVarint(b); n < 0 {
				return 0, false
			}
		} else if n = protowire.ConsumeFieldValue(number, kind, b); n < 0 {
			return 0, false
		}
		b = b[n:]
	}
	return status, true
}
