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

// tell answers a call with what ask finds in the store. asked is what is wrong with the question, nil = nothing.
func (a *admin) tell(c *call, asked error, ask func(context.Context, history.Store) ([]byte, error)) {
	if asked != nil {
		c.fail(fasthttp.StatusBadRequest, asked.Error())
		return
	}
	s, err := a.eng.History().Store()
	if err != nil {
		c.fail(fasthttp.StatusServiceUnavailable, err.Error())
		return
	}
	select {
	case a.past.busy <- struct{}{}:
	default:
		c.fail(fasthttp.StatusServiceUnavailable, "too many questions about history at a time: ask again in a moment")
		return
	}
	defer func() { <-a.past.busy }()
	ctx, cancel := context.WithTimeout(context.Background(), historyWithin)
	defer cancel()
	body, err := ask(ctx, s)
	var much *history.FieldError // more would be in the answer than one may have
	switch {
	case errors.As(err, &much):
		c.fail(fasthttp.StatusBadRequest, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		c.fail(fasthttp.StatusServiceUnavailable, "the history store did not answer in time: ask for less, or with a larger step")
	case err != nil:
		c.fail(fasthttp.StatusServiceUnavailable, err.Error())
	default:
		c.raw(fasthttp.StatusOK, body)
	}
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
		Pool: string(args.Peek("pool")), Peer: canonical(string(args.Peek("peer"))), Class: string(args.Peek("class")), By: history.By(args.Peek("by")),
	}
	var err error
	if q.FromMS, q.ToMS, err = c.span(now); err == nil {
		if step := string(args.Peek("step")); step != "" {
			q.StepMS, err = history.ParseStep(step)
		}
	}
	if metric := string(args.Peek("metric")); metric != "" {
		of := history.AskMetrics(q, metric)
		if err == nil {
			err = of.Check(now)
		}
		a.tell(c, err, func(ctx context.Context, s history.Store) ([]byte, error) {
			lines := history.NewMetricCollector(of)
			if err := s.Metrics(ctx, of, lines.Add); err != nil {
				return nil, err
			}
			return of.AppendAnswer(nil, lines.Lines()), nil
		})
		return
	}
	if err == nil {
		err = q.Check(now)
	}
	a.tell(c, err, func(ctx context.Context, s history.Store) ([]byte, error) {
		lines := history.NewCollector(q)
		if err := s.Rollups(ctx, q, lines.Add); err != nil {
			return nil, err
		}
		return q.AppendAnswer(nil, lines.Lines()), nil
	})
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
	a.tell(c, err, func(ctx context.Context, s history.Store) ([]byte, error) {
		events, err := s.Events(ctx, kind, string(args.Peek("pool")), from, to, limit)
		body, _ := json.Marshal(map[string]any{"events": events}) // texts and numbers always have a form
		return body, err
	})
}
