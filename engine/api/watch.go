package api

import (
	"fmt"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	maxWaitMS   = 25_000
	maxWatchers = 512 // half of the connections: the rest of the protocol must still get through
	// goneEvery is how often is looked whether the client of a long poll is still there. Nothing is read meanwhile that would tell, and those who
	// left kept the places of those who came for up to 25 s.
	goneEvery = time.Second
)

func (s *socket) watch(c *call) {
	since, wait, err := watchArgs(c)
	if err != nil {
		c.fail(fasthttp.StatusBadRequest, err.Error())
		return
	}
	readable := string(c.QueryArgs().Peek("format")) == "json"
	epoch := string(c.QueryArgs().Peek("epoch"))
	waiting := s.eng.Watchers()
	defer func() { s.eng.Metrics().WatchClients.Set(float64(waiting.Leave())) }()
	n := waiting.Join()
	s.eng.Metrics().WatchClients.Set(float64(n))
	if n > maxWatchers {
		c.fail(fasthttp.StatusServiceUnavailable, fmt.Sprintf("%d long polls wait already; one NGINX needs one", maxWatchers))
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	look := time.NewTicker(goneEvery)
	defer look.Stop()
	for {
		state := s.eng.State()
		if state.Newer(epoch, since) {
			c.raw(fasthttp.StatusOK, state.AppendWatch(nil, epoch, since, readable))
			return
		}
		select {
		case <-state.Next():
		case <-look.C:
			if gone(c.Conn()) {
				c.SetStatusCode(fasthttp.StatusNoContent)
				return
			}
		case <-timer.C:
			c.SetStatusCode(fasthttp.StatusNoContent)
			return
		case <-s.stop:
			c.SetStatusCode(fasthttp.StatusNoContent)
			return
		}
	}
}

func watchArgs(c *call) (since uint64, wait time.Duration, err error) {
	args := c.QueryArgs()
	if raw := args.Peek("since"); len(raw) > 0 {
		if since, err = strconv.ParseUint(string(raw), 10, 64); err != nil {
			return 0, 0, fmt.Errorf("since must be a version as an earlier answer gave it, is %q", raw)
		}
	}
	ms := maxWaitMS
	if raw := args.Peek("wait"); len(raw) > 0 {
		if ms, err = strconv.Atoi(string(raw)); err != nil || ms < 0 {
			return 0, 0, fmt.Errorf("wait must be a time in ms from 0 to %d, is %q", maxWaitMS, raw)
		}
	}
	if f := args.Peek("format"); len(f) > 0 && string(f) != "json" {
		return 0, 0, fmt.Errorf(`format must be "json" or left out, is %q`, f)
	}
	return since, time.Duration(min(ms, maxWaitMS)) * time.Millisecond, nil
}
