// Package rpc is the gRPC service of the scripted backend: grpc-go's own service for interoperability tests, as far as tests need it.
package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// Handler serves grpc.testing.TestService and grpc.health.v1.Health over HTTP/2.
func Handler() http.Handler {
	s := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(s, service{})
	grpc_health_v1.RegisterHealthServer(s, health.NewServer())
	return s
}

type service struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (service) EmptyCall(context.Context, *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	return &grpc_testing.Empty{}, nil
}

// UnaryCall answers with the request's payload, or fails with the status it asks for, which gRPC sends in trailers.
func (service) UnaryCall(_ context.Context, q *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if e := q.GetResponseStatus(); e.GetCode() != 0 {
		return nil, status.Error(codes.Code(e.GetCode()), e.GetMessage())
	}
	return &grpc_testing.SimpleResponse{Payload: q.GetPayload()}, nil
}

// StreamingOutputCall sends messages of the sizes asked for, each after its interval.
func (service) StreamingOutputCall(q *grpc_testing.StreamingOutputCallRequest, out grpc_testing.TestService_StreamingOutputCallServer) error {
	return send(q, out.Send)
}

// FullDuplexCall does so for each message it gets.
func (service) FullDuplexCall(both grpc_testing.TestService_FullDuplexCallServer) error {
	for {
		q, err := both.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = send(q, both.Send)
		}
		if err != nil {
			return err
		}
	}
}

func send(q *grpc_testing.StreamingOutputCallRequest, out func(*grpc_testing.StreamingOutputCallResponse) error) error {
	for _, p := range q.GetResponseParameters() {
		time.Sleep(time.Duration(p.GetIntervalUs()) * time.Microsecond)
		if err := out(&grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}
