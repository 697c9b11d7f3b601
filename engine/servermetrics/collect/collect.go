// Package collect fetches server metrics: by PromQL from a Prometheus, or from an exporter's page in the text format. Every call is
// bounded in time (by its context), bytes and series; nothing is retried.
package collect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/weirlb/weir/engine/servermetrics/expr"
)

// Bounds of one answer.
const (
	maxBody   = 8 << 20
	maxSeries = 20_000
)

// Client makes the calls. Safe for concurrent use.
type Client struct{ http *http.Client }

// New returns a client. Connections are kept for the next round; redirects are followed within the host only, so that no exporter can
// send the engine elsewhere.
func New() *Client {
	return &Client{&http.Client{
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, MaxIdleConnsPerHost: 4, MaxIdleConns: 256,
			IdleConnTimeout: 90 * time.Second, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > 4 || r.URL.Host != via[0].URL.Host {
				return fmt.Errorf("redirected to %s", r.URL.Redacted())
			}
			return nil
		},
	}}
}

// Close ends the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// get reads a page. base may carry a password: it is sent, and in no error.
func (c *Client) get(ctx context.Context, target *url.URL, accept string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("%s is no URL", target.Redacted())
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "weir")
	res, err := c.http.Do(req)
	if err != nil {
		var u *url.Error // its text would be the whole URL, with the query
		if errors.As(err, &u) {
			err = u.Err
		}
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("no answer in time")
		}
		return nil, nil, fmt.Errorf("asking %s: %w", place(target), err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil, fmt.Errorf("asking %s: no answer in time", place(target))
	case err != nil:
		return nil, nil, fmt.Errorf("reading what %s says: %w", place(target), err)
	case len(body) > maxBody:
		return nil, nil, fmt.Errorf("%s says more than %d MiB", place(target), maxBody>>20)
	}
	return res, body, nil
}

func place(u *url.URL) string {
	return u.Scheme + "://" + u.Host + "/" + strings.TrimPrefix(u.Path, "/")
}

// Query asks a Prometheus (or what speaks its API) for the value of an expression now. A scalar has no labels.
func (c *Client) Query(ctx context.Context, base, query string) ([]expr.Series, error) {
	target, err := url.Parse(base)
	if err != nil {
		return nil, errors.New("the address of the Prometheus is no URL")
	}
	target = target.JoinPath("api/v1/query")
	with := target.Query()
	with.Set("query", query)
	target.RawQuery = with.Encode()
	res, body, err := c.get(ctx, target, "application/json")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Status, Error string
		Data          struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status == "" {
		return nil, fmt.Errorf("%s answered %s and no JSON of Prometheus", place(target), res.Status)
	}
	if answer.Status != "success" {
		return nil, fmt.Errorf("%s refused the query: %.300s", place(target), answer.Error)
	}
	type sample struct {
		Metric map[string]string
		Value  [2]any // time, value as text
	}
	var samples []sample
	switch answer.Data.ResultType {
	case "vector":
		err = json.Unmarshal(answer.Data.Result, &samples)
	case "scalar":
		samples = make([]sample, 1)
		err = json.Unmarshal(answer.Data.Result, &samples[0].Value)
	default:
		return nil, fmt.Errorf("the query gives a %s: it must give one value a series, without a range", answer.Data.ResultType)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("understanding what %s says: %w", place(target), err)
	case len(samples) > maxSeries:
		return nil, fmt.Errorf("the query gives %d series, at most %d are taken: aggregate it", len(samples), maxSeries)
	}
	out := make([]expr.Series, 0, len(samples))
	for _, s := range samples {
		text, _ := s.Value[1].(string)
		var v model.SampleValue
		if err := json.Unmarshal([]byte(`"`+text+`"`), &v); err != nil {
			return nil, fmt.Errorf("%s gives a value that is no number: %.40q", place(target), text)
		}
		out = append(out, expr.Series{Labels: s.Metric, Value: float64(v)})
	}
	return out, nil
}

// Scrape reads an exporter's page and keeps the metrics of these names.
func (c *Client) Scrape(ctx context.Context, page string, names map[string]bool) (expr.Page, error) {
	target, err := url.Parse(page)
	if err != nil || target.Host == "" {
		return nil, errors.New("the address of the exporter is no URL")
	}
	res, body, err := c.get(ctx, target, "text/plain;version=0.0.4")
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", place(target), res.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(body)))
	if err != nil {
		return nil, fmt.Errorf("%s is no page of metrics: %.200s", place(target), err.Error())
	}
	out := expr.Page{}
	n := 0
	for _, f := range families {
		for _, m := range f.Metric {
			each(f, m, func(name string, v float64) {
				if names[name] {
					out[name] = append(out[name], expr.Series{Labels: labels(m), Value: v})
					n++
				}
			})
		}
	}
	if n > maxSeries {
		return nil, fmt.Errorf("%s has %d series of these names, at most %d are taken", place(target), n, maxSeries)
	}
	return out, nil
}

// each gives the values of a metric by the names they have on the page. Quantiles and buckets are left out.
func each(f *dto.MetricFamily, m *dto.Metric, to func(string, float64)) {
	name := f.GetName()
	switch {
	case m.Gauge != nil:
		to(name, m.Gauge.GetValue())
	case m.Counter != nil:
		to(name, m.Counter.GetValue())
	case m.Untyped != nil:
		to(name, m.Untyped.GetValue())
	case m.Summary != nil:
		to(name+"_sum", m.Summary.GetSampleSum())
		to(name+"_count", float64(m.Summary.GetSampleCount()))
	case m.Histogram != nil:
		to(name+"_sum", m.Histogram.GetSampleSum())
		to(name+"_count", float64(m.Histogram.GetSampleCount()))
	}
}

func labels(m *dto.Metric) map[string]string {
	out := make(map[string]string, len(m.Label))
	for _, l := range m.Label {
		out[l.GetName()] = l.GetValue()
	}
	return out
}
