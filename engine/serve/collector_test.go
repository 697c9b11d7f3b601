package serve

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/servermetrics/collect"
)

// A share of nothing is NaN: what an error rate is of a peer without traffic. The reason in the health ended with "of what the query gives has ".
func TestAValueThatIsNoNumberIsToldAsOne(t *testing.T) {
	for what, want := range map[string]string{
		`{"metric":{"instance":"10.0.0.1:80"},"value":[1,"NaN"]}`:  "there is no value for 10.0.0.1:80: the query gives NaN for 10.0.0.1:80",
		`{"metric":{"instance":"10.0.0.1:80"},"value":[1,"+Inf"]}`: "there is no value for 10.0.0.1:80: the query gives +Inf for 10.0.0.1:80",
		`{"metric":{"instance":"10.9.9.9:80"},"value":[1,"NaN"]}`:  "there is no value for 10.0.0.1:80: the query gives no finite number",
		`{"metric":{"instance":"10.9.9.9:80"},"value":[1,"1"]}`:    `there is no value for 10.0.0.1:80: label "instance" of what the query gives has "10.9.9.9:80"`,
		`{"metric":{"instance":"10.0.0.1:80"},"value":[1,"1"]}`:    "",
	} {
		prom := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[%s]}}`, what)
		}))
		client := collect.New()
		s := &collector{
			pool:    &livePool{eng: &Engine{prometheus: prom.URL}},
			metrics: []config.Metric{{Name: "m", Query: "q", Label: "instance", As: "$1", By: config.ByHost, TimeoutMS: 5000}},
		}
		if _, fault := s.ask(t.Context(), client, []string{"10.0.0.1:80"}); !strings.HasPrefix(fault, want) || want == "" && fault != "" {
			t.Errorf("%s: %q, want %q", what, fault, want)
		}
		client.Close()
		prom.Close()
	}
}
