package collect

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Whole servers are in test/e2e; here is what they never say.

func serving(t *testing.T, body string, status int) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestWhatIsNoAnswerOfPrometheusIsAnErrorThatSaysSo(t *testing.T) {
	for body, want := range map[string]string{
		"":       "no JSON of Prometheus",
		"<html>": "no JSON of Prometheus",
		`{"status":"error","error":"parse error: unexpected end"}`:                                               "refused the query: parse error",
		`{"status":"success","data":{"resultType":"matrix","result":[]}}`:                                        "the query gives a matrix",
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}}`:           `a value that is no number: "x"`,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,{"a":1}]}]}}`:       `a value that is no number`,
		`{"status":"success","data":{"resultType":"vector","result":7}}`:                                         "understanding what",
		`{"status":"success","data":{"resultType":"vector","result":[` + strings.Repeat(`{},`, 20_000) + `{}]}}`: "20001 series",
		strings.Repeat(" ", maxBody+1): "more than 8 MiB",
	} {
		_, err := New().Query(context.Background(), serving(t, body, 200), "up")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", body, err, want)
		}
	}
}

func TestAScalarAndAVectorAreTaken(t *testing.T) {
	for body, want := range map[string]string{
		`{"status":"success","data":{"resultType":"scalar","result":[1,"0.5"]}}`:                                        "[{map[] 0.5}]",
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"+Inf"]}]}}`:        "[{map[a:b] +Inf}]",
		`{"status":"success","data":{"resultType":"vector","result":[]}}`:                                               "[]",
		`{"status":"success","warnings":["x"],"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]}]}}`: "[{map[] 1}]",
	} {
		got, err := New().Query(context.Background(), serving(t, body, 200), "up")
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%s: %v %v", body, got, err)
		}
	}
}

func TestWhatIsNoPageOfMetricsIsAnErrorThatSaysSo(t *testing.T) {
	for _, c := range []struct {
		body   string
		status int
		want   string
	}{
		{"<html>nothing here</html>", 200, "is no page of metrics"},
		{"m 1", 503, "answered 503"},
		{"m{a=\"b} 1\n", 200, "is no page of metrics"},
		{strings.Repeat("# x\n", maxBody/4+1), 200, "more than 8 MiB"},
	} {
		_, err := New().Scrape(context.Background(), serving(t, c.body, c.status), map[string]bool{"m": true})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v", c.body, err)
		}
	}
}

func TestOfAPageTheNamedMetricsAreKept(t *testing.T) {
	body := "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 3\nh_sum 7\nh_count 3\n" +
		"# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 9\ns_count 2\n# TYPE g gauge\ng{a=\"x\"} 4\ng{a=\"y\"} NaN\nother 1\nuntyped 5\n# TYPE c counter\nc 6\n"
	want := map[string]bool{"h_sum": true, "s_count": true, "g": true, "untyped": true, "c": true}
	got, err := New().Scrape(context.Background(), serving(t, body, 200), want)
	if err != nil || len(got) != 5 {
		t.Fatalf("%v %v", got, err)
	}
	if got["h_sum"][0].Value != 7 || got["s_count"][0].Value != 2 || len(got["g"]) != 2 || got["g"][0].Labels["a"] != "x" || got["untyped"][0].Value != 5 || got["c"][0].Value != 6 {
		t.Errorf("%v", got)
	}
}

func TestASilentServerIsLeftInTime(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer s.Close()
	defer close(hang)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := New().Scrape(ctx, s.URL, nil); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Error(err)
	}
}

func TestNoErrorHasThePasswordOfAURL(t *testing.T) {
	with := func(u string) string { return strings.Replace(u, "http://", "http://user:hunter2@", 1) }
	away := httptest.NewServer(http.RedirectHandler(with("http://127.0.0.2:1/"), http.StatusFound))
	defer away.Close()
	for _, u := range []string{"http://127.0.0.1:1", away.URL, serving(t, "x", 500)} {
		_, asked := New().Query(context.Background(), with(u), "up")
		_, read := New().Scrape(context.Background(), with(u), nil)
		for _, err := range []error{asked, read} {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", u, err)
			}
		}
	}
}
