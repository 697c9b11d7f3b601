package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/test/backend"
)

type options struct {
	URL        string        `json:"url"`
	Rate       float64       `json:"rate_per_s"`
	For        time.Duration `json:"-"`
	Warmup     time.Duration `json:"-"`
	Timeout    time.Duration `json:"-"`
	MaxOpen    int           `json:"max_open"`
	Seed       uint64        `json:"seed"`
	PeerHeader string        `json:"-"`
	Progress   bool          `json:"-"`
	Classes    []class       `json:"classes"`
}

type class struct {
	Name  string        `json:"name"`
	Share float64       `json:"share"`
	Work  *backend.Dist `json:"work,omitempty"` // nil: the backend draws
}

// arrival is one request of the plan.
type arrival struct {
	due    time.Duration // from the start, warm-up included
	class  int
	number int
	workMS float64 // below 0: not told
}

// plan makes the arrivals one by one from the seed. Each kind of draw has a stream of its own, so that a class more or another
// distribution leaves the arrival times as they are.
type plan struct {
	opt                  *options
	gaps, classes, sizes *rand.Rand
	at                   time.Duration
	number               int
}

func newPlan(opt *options) *plan {
	return &plan{opt: opt, gaps: rand.New(rand.NewPCG(opt.Seed, 1)), classes: rand.New(rand.NewPCG(opt.Seed, 2)), sizes: rand.New(rand.NewPCG(opt.Seed, 3))}
}

func (p *plan) next() arrival {
	p.at += time.Duration(p.gaps.ExpFloat64() / p.opt.Rate * float64(time.Second))
	p.number++
	a := arrival{due: p.at, number: p.number, workMS: -1}
	u := p.classes.Float64()
	for a.class < len(p.opt.Classes)-1 && u >= p.opt.Classes[a.class].Share {
		u -= p.opt.Classes[a.class].Share
		a.class++
	}
	if d := p.opt.Classes[a.class].Work; d != nil {
		a.workMS = d.Draw(p.sizes)
	}
	return a
}

// sample is what came of one request.
type sample struct {
	class   int
	peer    string
	status  int // 0 = no answer
	latency time.Duration
	late    time.Duration // sent so long after it was due: the generator's own delay
	err     string
}

func (s *sample) failed() bool { return s.status == 0 || s.status >= 500 }

type load struct {
	opt    options
	client *fasthttp.Client
	open   chan struct{} // one token a request being sent

	mu      sync.Mutex // guards samples and recent
	samples []sample
	recent  []sample // since the last line of progress
}

func newLoad(opt options) *load {
	return &load{
		opt: opt, open: make(chan struct{}, opt.MaxOpen),
		client: &fasthttp.Client{
			MaxConnsPerHost: opt.MaxOpen, ReadTimeout: opt.Timeout, WriteTimeout: opt.Timeout, MaxIdleConnDuration: time.Minute,
			NoDefaultUserAgentHeader: true, MaxIdemponentCallAttempts: 1,
			RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		},
	}
}

// run sends the load and waits for the answers.
func (l *load) run(ctx context.Context, progress io.Writer) report {
	p := newPlan(&l.opt)
	var sending sync.WaitGroup
	total := l.opt.Warmup + l.opt.For
	start := time.Now()
	line := start.Add(time.Second)
	timer := time.NewTimer(0)
	defer timer.Stop()
	stopped := total
	for {
		a := p.next()
		if a.due >= total {
			break
		}
		if wait := time.Until(start.Add(a.due)); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			stopped = a.due
			break
		}
		select {
		case l.open <- struct{}{}:
			sending.Go(func() {
				l.record(a, l.send(a, start.Add(a.due)))
				<-l.open
			})
		default:
			l.record(a, sample{class: a.class, err: fmt.Sprintf("more than %d requests open", l.opt.MaxOpen)})
		}
		if now := time.Now(); now.After(line) {
			l.line(progress, now.Sub(start))
			line = line.Add(time.Second)
		}
	}
	sending.Wait()
	l.client.CloseIdleConnections()
	return l.report(max(0, stopped-l.opt.Warmup))
}

// send sends one request; latency runs from due to the end of the answer.
func (l *load) send(a arrival, due time.Time) sample {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(l.opt.URL + "/" + l.opt.Classes[a.class].Name + "/" + strconv.Itoa(a.number))
	if a.workMS >= 0 {
		req.Header.Set("X-Work-Ms", strconv.FormatFloat(a.workMS, 'f', 3, 64))
	}
	s := sample{class: a.class, late: time.Since(due)}
	err := l.client.DoDeadline(req, resp, due.Add(l.opt.Timeout))
	s.latency = time.Since(due)
	if err != nil {
		s.err = err.Error()
		if errors.Is(err, fasthttp.ErrTimeout) {
			s.err = "time-out"
		}
		return s
	}
	s.status = resp.StatusCode()
	s.peer = string(resp.Header.Peek(l.opt.PeerHeader))
	return s
}

func (l *load) record(a arrival, s sample) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.opt.Progress {
		l.recent = append(l.recent, s)
	}
	if a.due >= l.opt.Warmup {
		l.samples = append(l.samples, s)
	}
}

// line shows the last second.
func (l *load) line(w io.Writer, at time.Duration) {
	l.mu.Lock()
	recent := l.recent
	l.recent = nil
	l.mu.Unlock()
	f := figuresOf(recent)
	phase := ""
	if at < l.opt.Warmup {
		phase = "  warming up"
	}
	_, _ = fmt.Fprintf(w, "%4.0f s of %.0f  %5d answered  p50 %7.1f ms  p99 %7.1f ms  %d failed%s\n", at.Seconds(), (l.opt.Warmup + l.opt.For).Seconds(),
		f.Requests-f.Failed, f.P50, f.P99, f.Failed, phase)
}
