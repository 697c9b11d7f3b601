package api

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/engine/observe"
)

const (
	compactType  = "application/x-weir-observe"
	readableType = "application/x-ndjson"
)

func (s *socket) observe(c *call) {
	tel := s.eng.Metrics()
	tel.Batches.Inc()
	// After a standstill of the engine copies of one batch wait here: NGINX gave up on each and sent it again. Only the last has a sender.
	if gone(c.Conn()) {
		tel.BadGone.Inc()
		c.fail(fasthttp.StatusRequestTimeout, "the sender hung up before the batch was taken")
		return
	}
	b := s.batches.Get().(*observe.Batch)
	defer s.batches.Put(b)
	var err error
	media, _, _ := bytes.Cut(c.Request.Header.ContentType(), []byte{';'})
	switch media = bytes.TrimSpace(media); { // in whatever case, as HTTP has it
	case strings.EqualFold(string(media), compactType):
		err = b.DecodeCompact(c.PostBody())
	case strings.EqualFold(string(media), readableType):
		err = b.DecodeNDJSON(c.PostBody())
		// NGINX sends addresses as the engine does. Who writes this form by hand or program may have them as weir.yaml does.
		for i, peer := range b.Peers {
			b.Peers[i] = canonical(peer)
		}
	default:
		tel.BadHeader.Inc()
		c.failKnown(fasthttp.StatusUnsupportedMediaType,
			fmt.Sprintf("outcomes come as one of the known content types, not as %q", media), []string{compactType, readableType})
		return
	}
	// What was read before a fault is kept: the batch is empty where nothing may be.
	accepted, unknown := s.eng.Observe(b)
	var version *observe.VersionError
	var record *observe.RecordError
	switch {
	case err == nil:
	case errors.Is(err, observe.ErrTooMany):
		tel.BadSize.Inc()
		c.fail(fasthttp.StatusRequestEntityTooLarge, err.Error())
		return
	case errors.As(err, &version):
		tel.BadVersion.Inc()
		s.mismatch(c, fmt.Sprint(version.Got))
		return
	case errors.As(err, &record):
		tel.BadRecord.Inc()
		s.eng.Log().Repeated("bad record "+b.Instance).Str("instance", b.Instance).Int("worker", b.Worker).
			Str("error", err.Error()).Msg("a batch of outcomes has a bad record")
		c.problem(fasthttp.StatusBadRequest, problem{Error: err.Error(), Record: &record.Record, Accepted: &accepted})
		return
	default:
		tel.BadHeader.Inc()
		s.eng.Log().Repeated("bad batch").Str("error", err.Error()).Msg("a batch of outcomes cannot be read")
		c.problem(fasthttp.StatusBadRequest, problem{Error: err.Error(), Accepted: &accepted})
		return
	}
	if len(unknown) > 0 {
		tel.BadPool.Inc()
		for i, name := range unknown {
			unknown[i] = fmt.Sprintf("%q", name)
		}
		message := "there is no pool " + strings.Join(unknown, ", nor ") + "; known says which there are"
		s.eng.Log().Repeated("unknown pool "+b.Instance).Str("instance", b.Instance).Strs("pools", unknown).
			Msg("outcomes of unknown pools are not used")
		c.problem(fasthttp.StatusNotFound, problem{Error: message, Known: s.eng.State().Names(), Accepted: &accepted})
		return
	}
	c.accepted(accepted)
}

// accepted answers {"accepted": n} without allocating.
func (c *call) accepted(n int) {
	c.SetStatusCode(fasthttp.StatusOK)
	c.Response.Header.SetContentType("application/json")
	body := append(c.Response.Body()[:0], `{"accepted":`...)
	c.Response.SetBody(append(fasthttp.AppendUint(body, n), '}'))
}
