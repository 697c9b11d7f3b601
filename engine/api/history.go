package api

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/engine/history"
)

const (
	// historyWithin bounds what a question may take the store.
	historyWithin = 20 * time.Second
	// historyAtOnce bounds the questions that are answered at a time: each may hold some ten megabytes.
	historyAtOnce = 4
	maxEvents     = 10_000
)

// histories answers questions about the past.
type histories struct{ busy chan struct{} }

func newHistories() histories { return histories{make(chan struct{}, historyAtOnce)} }

// enter returns the store and a context for one question; leave must be called when ok. Otherwise the call is answered.
func (a *admin) enter(c *call) (s history.Store, ctx context.Context, leave func(), ok bool) {
	s, err := a.eng.History().Store()
	if err != nil {
		c.fail(fasthttp.StatusServiceUnavailable, err.Error())
		return nil, nil, nil, false
	}
	select {
	case a.past.busy <- struct{}{}:
	default:
		c.fail(fasthttp.StatusServiceUnavailable, "too many questions about history at a time: ask again in a moment")
		return nil, nil, nil, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), historyWithin)
	return s, ctx, func() { cancel(); <-a.past.busy }, true
}

// span reads from and to.
func (c *call) span(now int64) (from, to int64, err error) {
	args := c.QueryArgs()
	for _, one := range []struct {
		name string
		into *int64
	}{{"from", &from}, {"to", &to}} {
		if text := string(args.Peek(one.name)); text != "" {
			if *one.into, err = history.ParseTime(one.name, text, now); err != nil {
				return 0, 0, err
			}
		}
	}
	return from, to, nil
}

// history is GET /api/history.
func (a *admin) history(c *call) {
	args := c.QueryArgs()
	now := time.Now().UnixMilli()
	q := history.Question{
		Pool: string(args.Peek("pool")), Peer: string(args.Peek("peer")), Class: string(args.Peek("class")), By: history.By(args.Peek("by")),
	}
	var err error
	if q.FromMS, q.ToMS, err = c.span(now); err == nil {
		if step := string(args.Peek("step")); step != "" {
			q.StepMS, err = history.ParseStep(step)
		}
	}
	if metric := string(args.Peek("metric")); metric != "" && err == nil {
		a.pastMetrics(c, history.AskMetrics(q, metric), now)
		return
	}
	if err == nil {
		err = q.Check(now)
	}
	if err != nil {
		c.fail(fasthttp.StatusBadRequest, err.Error())
		return
	}
	s, ctx, leave, ok := a.enter(c)
	if !ok {
		return
	}
	defer leave()
	lines := history.NewCollector(q)
	if err := s.Rollups(ctx, q, lines.Add); err != nil {
		c.failHistory(err)
		return
	}
	c.raw(fasthttp.StatusOK, q.AppendAnswer(nil, lines.Lines()))
}

// pastMetrics is GET /api/history with a metric.
func (a *admin) pastMetrics(c *call, q history.MetricQuestion, now int64) {
	if err := q.Check(now); err != nil {
		c.fail(fasthttp.StatusBadRequest, err.Error())
		return
	}
	s, ctx, leave, ok := a.enter(c)
	if !ok {
		return
	}
	defer leave()
	lines := history.NewMetricCollector(q)
	err := s.Metrics(ctx, q, lines.Add)
	var much *history.FieldError
	switch {
	case errors.As(err, &much):
		c.fail(fasthttp.StatusBadRequest, err.Error())
	case err != nil:
		c.failHistory(err)
	default:
		c.raw(fasthttp.StatusOK, q.AppendAnswer(nil, lines.Lines()))
	}
}

// events is GET /api/history/events.
func (a *admin) events(c *call) {
	args := c.QueryArgs()
	now := time.Now().UnixMilli()
	from, to, err := c.span(now)
	kind := history.EventKind(args.Peek("kind"))
	limit := 1000
	if text := string(args.Peek("limit")); text != "" && err == nil {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxEvents {
			err = &history.FieldError{Field: "limit", Reason: "must be a whole number from 1 to " + strconv.Itoa(maxEvents)}
		}
	}
	switch {
	case err != nil:
	case kind != "" && kind != history.Health && kind != history.Model && kind != history.Config:
		err = &history.FieldError{Field: "kind", Reason: "must be one of health, model, config"}
	case to == 0:
		to = now + 1
	}
	if err != nil {
		c.fail(fasthttp.StatusBadRequest, err.Error())
		return
	}
	s, ctx, leave, ok := a.enter(c)
	if !ok {
		return
	}
	defer leave()
	events, err := s.Events(ctx, kind, string(args.Peek("pool")), from, to, limit)
	if err != nil {
		c.failHistory(err)
		return
	}
	body, _ := json.Marshal(map[string]any{"events": events}) // texts and numbers always have a form
	c.raw(fasthttp.StatusOK, body)
}

// failHistory answers that the store did not.
func (c *call) failHistory(err error) {
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("the history store did not answer in time: ask for less, or with a larger step")
	}
	c.fail(fasthttp.StatusServiceUnavailable, err.Error())
}
