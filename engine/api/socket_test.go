package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirlb/weir/engine/observe"
	"github.com/weirlb/weir/engine/serve"
)

type table struct {
	Protocol int
	Pool     string
	Version  uint64
	Class    string
	Peers    []struct {
		Addr, State string
		Usable      bool
	}
	Grid  []int
	Costs [][]float64
	Pick  *picked
}

func TestDecideAnswersTheTableAndOnePickWhenAsked(t *testing.T) {
	r := start(t, twoPools)
	var got table
	a := r.ask("POST", "/decide", `{"pool":"api","class":"GET /users/{n}"}`, protocolHeader, "1")
	a.into(t, &got)
	if a.status != 200 || a.header.Get(protocolHeader) != "1" || got.Protocol != 1 || got.Pool != "api" || got.Class != "*" || len(got.Peers) != 4 ||
		len(got.Costs) != 4 || len(got.Costs[0]) != len(got.Grid) || got.Pick != nil {
		t.Errorf("%d %+v", a.status, got)
	}
	a = r.ask("POST", "/decide", `{"pool":"api","path":"/users/7","pick":true,"inflight":{"10.0.0.1:80":9,"10.0.0.2:80":9,"unix:/run/app.sock":9},"weight":2}`)
	got = table{}
	a.into(t, &got)
	if a.status != 200 || got.Pick == nil || got.Pick.PredictedMS <= 0 || got.Pick.Propensity <= 0 || got.Pick.Reason == "" || len(got.Pick.Alternatives) != 3 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	picks := map[string]int{}
	for range 50 {
		got = table{}
		r.ask("POST", "/decide", `{"pool":"api","pick":true,"inflight":{"10.0.0.1:80":90,"10.0.0.2:80":90,"unix:/run/app.sock":90}}`).into(t, &got)
		picks[got.Pick.Peer]++
	}
	if picks["[::1]:9001"] < 40 {
		t.Errorf("the only idle peer of four is picked in %v of 50", picks)
	}
}

// weir.yaml takes a peer in any spelling. Under another one its requests in flight counted for nothing, and its outcomes were dropped without a word.
func TestPeersAreKnownOnTheSocketHoweverTheyAreSpelled(t *testing.T) {
	r := start(t, twoPools)
	var got table
	r.ask("POST", "/decide", `{"pool":"api","pick":true,"inflight":{"10.0.0.1:80":1,"10.0.0.2:80":1,"unix:/run//app.sock":1,"[0:0::1]:9001":90}}`).into(t, &got)
	if got.Pick == nil {
		t.Fatal("no pick")
	}
	for _, p := range append(got.Pick.Alternatives, alternative{Peer: got.Pick.Peer, PredictedMS: got.Pick.PredictedMS}) {
		if high := p.PredictedMS > 5*got.Pick.PredictedMS; high != (p.Peer == "[::1]:9001") {
			t.Errorf("%s is expected to cost %.1f ms beside %.1f", p.Peer, p.PredictedMS, got.Pick.PredictedMS)
		}
	}
	if a := r.ask("POST", "/decide", `{"pool":"api","pick":true,"inflight":{"[::1]:9001":1,"[0:0::1]:9001":90}}`); a.status != 400 || !strings.Contains(a.body, "there twice") {
		t.Errorf("one peer in two spellings: %d %s", a.status, a.body)
	}
	line := `{"pool":"api","peer":"[0:0::1]:9001","total_ms":5}` + "\n" + `{"pool":"api","peer":"[::1]:9001","total_ms":5}`
	if a := r.ask("POST", "/observe", line, "Content-Type", ndjson); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	var f serve.PeerFigures
	r.manage("GET", "/api/pools/api/peers/%5B::1%5D:9001", "").into(t, &f)
	if f.Attempts != 2 {
		t.Errorf("%d attempts are known of the peer, want both", f.Attempts)
	}
}

// As NGINX picks: a request that is five times the usual costs more, and does not explore.
func TestAPickHeedsTheWeightOfTheRequest(t *testing.T) {
	r := start(t, twoPools)
	var b strings.Builder
	for i := range 400 {
		fmt.Fprintf(&b, `{"pool":"api","class":"*","peer":"10.0.0.%d:80","header_ms":8,"total_ms":8,"weight":2}`+"\n", 1+i%2)
	}
	if a := r.ask("POST", "/observe", b.String(), "Content-Type", "application/x-ndjson"); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	pick := func(weight string) (onSocket, onAdmin picked) {
		var got table
		r.ask("POST", "/decide", `{"pool":"api","pick":true,"weight":`+weight+`}`).into(t, &got)
		var to routed
		r.manage("POST", "/api/route", `{"pool":"api","weight":`+weight+`}`).into(t, &to)
		if got.Pick == nil {
			t.Fatalf("no pick for weight %s", weight)
		}
		return *got.Pick, to.picked
	}
	within(t, 10*time.Second, "the table knows sizes", func() bool {
		p, _ := pick("10")
		return p.Size != 1
	})
	usual, _ := pick("2")
	none, _ := pick("0")
	large, routed := pick("10")
	if math.Abs(large.Size-5) > 0.1 || math.Abs(routed.Size-5) > 0.1 || none.Size != 1 || math.Abs(usual.Size-1) > 0.05 {
		t.Errorf("sizes %v and %v of weight 10, %v of 2, %v without; 2 is the usual", large.Size, routed.Size, usual.Size, none.Size)
	}
	for _, p := range []picked{large, routed} {
		if p.PredictedMS < 3*usual.PredictedMS || p.Alternatives[0].PredictedMS < 3*usual.Alternatives[0].PredictedMS {
			t.Errorf("five times the usual is priced %+v, the usual %+v", p, usual)
		}
		if p.Explored {
			t.Error("a large request explores")
		}
	}
}

func TestDecideUsesTheRowOfAClassOnceItIsListed(t *testing.T) {
	r := start(t, twoPools)
	within(t, 10*time.Second, "the class has its own row, by name and by path", func() bool {
		r.learn("api", "GET /users/{n}", "10.0.0.1:80", observe.OK, 50)
		var byName, byPath table
		r.ask("POST", "/decide", `{"pool":"api","class":"GET /users/{n}"}`).into(t, &byName)
		r.ask("POST", "/decide", `{"pool":"api","method":"GET","path":"/users/42"}`).into(t, &byPath)
		time.Sleep(50 * time.Millisecond)
		return byName.Class == "GET /users/{n}" && byPath.Class == byName.Class
	})
}

func TestDecideRefusesWhatItCannotAnswerAndSaysWhy(t *testing.T) {
	r := start(t, twoPools)
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{``, 400, "expected where the text ends"},
		{`nonsense`, 400, "expected"},
		{`[]`, 400, "expected"},
		{`{}`, 400, `\"pool\" is missing`},
		{`{"pool":""}`, 400, `\"pool\" is missing`},
		{`{"pool":7}`, 400, "pool: a string was expected"},
		{`{"pool":"api","clas":"*"}`, 400, `\"clas\" is no key`},
		{`{"pool":"api","method":"GET"}`, 400, `\"method\" without \"path\"`},
		{`{"pool":"api","path":"/","body_bytes":-2}`, 400, "body_bytes"},
		{`{"pool":"api","path":"/","body_bytes":1.5}`, 400, "body_bytes"},
		{`{"pool":"api","pick":1}`, 400, "true or false"},
		{`{"pool":"api","pick":true,"inflight":[]}`, 400, "inflight"},
		{`{"pool":"api","pick":true,"inflight":{"a":-1}}`, 400, "inflight"},
		{`{"pool":"api","pick":true,"weight":-1}`, 400, "weight"},
		{`{"pool":"api","pick":true,"weight":1e999}`, 400, "weight"},
		{`{"pool":"api","class":"*"}{}`, 400, "end was expected"},
		{"{\"pool\":\"api\",\"class\":\"\xff\"}", 400, "UTF-8"},
		{`{"pool":"nowhere"}`, 404, `no pool \"nowhere\"`},
		{`{"pool":"bare"}`, 503, `pool \"bare\" has no peers`},
		{`{"pool":"api","class":"` + strings.Repeat("x", maxDecideBody) + `"}`, 413, "65536 bytes"},
	} {
		a := r.ask("POST", "/decide", c.body)
		if a.status != c.status || !strings.Contains(a.body, c.says) || a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%.60s: %d %s; want %d and %q", c.body, a.status, a.body, c.status, c.says)
		}
		var p problem
		a.into(t, &p)
		if c.status == 404 && !slices.Equal(p.Known, []string{"api", "bare"}) {
			t.Errorf("known is %q", p.Known)
		}
	}
}

func TestAPoolWhoseSourcesHaveNotAnsweredIsNotTakenForOneThatLacksPeers(t *testing.T) {
	r := start(t, "pools: [{name: api, peers_file: "+filepath.Join(t.TempDir(), "none")+"}]")
	if a := r.ask("POST", "/decide", `{"pool":"api"}`); a.status != 503 || !strings.Contains(a.body, `pool \"api\" has no peers yet: its sources`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAnotherProtocolVersionIsRefusedOnEveryCallAndLoggedOnce(t *testing.T) {
	r := start(t, twoPools)
	for _, c := range [][2]string{{"POST", "/decide"}, {"GET", "/watch?since=0"}, {"POST", "/observe"}, {"GET", "/healthz"}, {"GET", "/nothing"}} {
		a := r.ask(c[0], c[1], "{}", protocolHeader, "7")
		if a.status != 426 || !strings.Contains(a.body, "protocol 7") || !strings.Contains(a.body, "protocol 1") || a.header.Get(protocolHeader) != "1" {
			t.Errorf("%s: %d %s", c[1], a.status, a.body)
		}
	}
	a := r.ask("POST", "/observe", "{\"v\":3,\"records\":0}\n", "Content-Type", compactType)
	if a.status != 426 || !strings.Contains(a.body, "protocol 3") {
		t.Errorf("a batch of version 3: %d %s", a.status, a.body)
	}
	if n := strings.Count(r.logged(), "another protocol version"); n != 2 {
		t.Errorf("%d lines for two foreign versions:\n%s", n, r.logged())
	}
}

func TestObserveTakesBothFormsAndSaysWhichRecordIsBad(t *testing.T) {
	r := start(t, twoPools)
	good := `{"pool":"api","peer":"10.0.0.1:80","total_ms":5}` + "\n"
	b := &observe.Batch{Instance: "web1"}
	for range 3 {
		rec := observe.Record{Attempt: 1, Propensity: 1, HeaderMS: observe.None, TotalMS: 1, PredictedMS: observe.None, Load: observe.None}
		if err := b.Add("api", "*", "10.0.0.2:80", rec); err != nil {
			t.Fatal(err)
		}
	}
	compact, err := b.AppendCompact(nil)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(compact)
	bad[len(bad)-48+7] = 99 // kind of the third record
	for _, c := range []struct {
		name, media, body string
		status            int
		want              string
	}{
		{"compact", compactType, string(compact), 200, `{"accepted":3}`},
		{"readable", ndjson, good + good, 200, `{"accepted":2}`},
		{"readable with charset", ndjson + "; charset=utf-8", good, 200, `{"accepted":1}`},
		{"readable in capitals", "Application/X-NDJSON", good, 200, `{"accepted":1}`},
		{"empty", ndjson, "", 200, `{"accepted":0}`},
		{"bad record", compactType, string(bad), 400, `"record":2,"accepted":2`},
		{"bad first record", ndjson, "{}\n" + good, 400, `"record":0,"accepted":0`},
		{"bad header", compactType, "{\n", 400, `the header line of the batch`},
		{"unknown peer", ndjson, `{"pool":"api","peer":"9.9.9.9:1","total_ms":5}`, 200, `{"accepted":1}`},
		{"unknown pool", ndjson, `{"pool":"no","peer":"x","total_ms":5}` + "\n" + good, 404, `"known":["api","bare"],"accepted":1`},
		{"no type", "", good, 415, `application/x-weir-observe`},
		{"form", "application/x-www-form-urlencoded", good, 415, `"known":`},
		{"too many records", ndjson, strings.Repeat(`{"pool":"api","peer":"x","total_ms":1}`+"\n", observe.MaxRecords+1), 413, "65536 records"},
		{"too many bytes", ndjson, strings.Repeat(" ", observe.MaxBody+1), 413, "4194304 bytes"},
	} {
		a := r.ask("POST", "/observe", c.body, "Content-Type", c.media)
		if a.status != c.status || !strings.Contains(a.body, c.want) {
			t.Errorf("%s: %d %.200s; want %d and %s", c.name, a.status, a.body, c.status, c.want)
		}
	}
	var f serve.PeerFigures
	r.manage("GET", "/api/pools/api/peers/10.0.0.2:80", "").into(t, &f)
	if f.Attempts != 5 {
		t.Errorf("%d attempts on 10.0.0.2:80, want 3 and the 2 before the bad record", f.Attempts)
	}
}

func TestAnOversizeBodyIsAnsweredEvenWhenTheClientKeepsSending(t *testing.T) {
	r := start(t, twoPools)
	nc, err := net.Dial("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(nc, "POST /observe HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 20000000\r\n\r\n", ndjson)
	if _, err := nc.Write(bytes.Repeat([]byte(" "), 20_000_000)); err != nil {
		t.Fatalf("the engine closed before it had read on: %v", err)
	}
	buf := make([]byte, 4096)
	n, err := nc.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), "HTTP/1.1 413") || !strings.Contains(string(buf[:n]), `{"error":`) {
		t.Errorf("%v: %s", err, buf[:n])
	}
}

func TestWatchAnswersAtOnceOrWhenSomethingHappensOrAfterWait(t *testing.T) {
	r := start(t, twoPools)
	var first struct {
		Epoch   string
		Version uint64
		Pools   []json.RawMessage
	}
	r.ask("GET", "/watch", "").into(t, &first)
	if len(first.Pools) != 2 || first.Epoch == "" {
		t.Fatalf("%+v", first)
	}
	at := fmt.Sprintf("/watch?since=%d&epoch=%s", first.Version, first.Epoch)
	began := time.Now()
	if a := r.ask("GET", at+"&wait=200", ""); a.status != 204 || a.body != "" || a.header.Get(protocolHeader) != "1" || time.Since(began) < 150*time.Millisecond {
		t.Errorf("nothing happened: %d %q after %v", a.status, a.body, time.Since(began))
	}
	if a := r.ask("GET", "/watch?since=999999&epoch=other", ""); a.status != 200 {
		t.Errorf("another epoch: %d", a.status)
	}
	woken := make(chan *answer, 1)
	go func() { woken <- r.ask("GET", at, "") }()
	within(t, 5*time.Second, "the poll waits", func() bool { return r.eng.Watchers().Count() == 1 })
	if a := r.manage("GET", "/metrics", ""); !strings.Contains(a.body, "weir_watch_clients 1\n") {
		t.Error("the poll is not counted")
	}
	r.learn("api", "*", "10.0.0.1:80", observe.Refused, 10)
	told := time.Now()
	select {
	case a := <-woken:
		if a.status != 200 || !strings.Contains(a.body, `"state":"ejected"`) {
			t.Errorf("%d %.300s", a.status, a.body)
		}
		if d := time.Since(told); d > 5*time.Second { // at once on an idle machine; the poll would have slept for 25 s
			t.Errorf("woken after %v", d)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a peer was ejected and the poll sleeps on")
	}
	for _, bad := range []string{"since=x", "since=-1", "wait=x", "wait=-1", "format=xml"} {
		if a := r.ask("GET", "/watch?"+bad, ""); a.status != 400 || !strings.Contains(a.body, "must be") {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
}

func TestWatchersBeyondTheLimitAreRefusedAndTheRestServed(t *testing.T) {
	r := start(t, twoPools)
	for range maxWatchers {
		r.eng.Watchers().Join()
	}
	if a := r.ask("GET", "/watch", ""); a.status != 503 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := r.ask("GET", "/healthz", ""); a.status != 200 || a.body != `{"status":"degraded"}` {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAWatcherThatHungUpKeepsNoPlace(t *testing.T) {
	r := start(t, twoPools)
	watch := func() *net.UnixConn {
		nc, err := net.Dial("unix", r.path)
		if err == nil {
			_, err = nc.Write([]byte("GET /watch?since=" + fmt.Sprint(r.eng.State().Version) + "&epoch=" + r.eng.State().Epoch + " HTTP/1.1\r\nHost: x\r\n\r\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		return nc.(*net.UnixConn)
	}
	listening := watch() // has said all it has to, and listens
	defer listening.Close()
	if err := listening.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	left := watch()
	within(t, 5*time.Second, "both wait", func() bool { return r.eng.Watchers().Count() == 2 })
	left.Close()
	within(t, 5*time.Second, "its place is free", func() bool { return r.eng.Watchers().Count() == 1 })
	time.Sleep(goneEvery + 100*time.Millisecond)
	if n := r.eng.Watchers().Count(); n != 1 {
		t.Errorf("%d wait of the one that listens", n)
	}
}

func TestUnknownPathsAndMethodsAreToldInJSON(t *testing.T) {
	r := start(t, twoPools)
	for _, c := range []struct {
		ask           func(string, string, string, ...string) *answer
		method, path  string
		status        int
		allow, inBody string
	}{
		{r.ask, "GET", "/", 404, "", "POST /decide"},
		{r.ask, "GET", "/api/health", 404, "", "nothing at this path"},
		{r.ask, "GET", "/decide/", 404, "", "nothing"},
		{r.ask, "GET", "/decide", 405, "POST", "takes POST"},
		{r.ask, "DELETE", "/watch", 405, "GET, HEAD", "takes GET"},
		{r.manage, "POST", "/decide", 404, "", "GET /api/health"},
		{r.manage, "PUT", "/api/pools/api/peers/x", 405, "GET, HEAD, PATCH", "takes GET, PATCH"},
		{r.manage, "GET", "/api/pools//peers/x", 404, "", "nothing"},
		{r.manage, "GET", "/api/pools/api/peers/x/y", 404, "", "nothing"},
	} {
		a := c.ask(c.method, c.path, "")
		var p problem
		a.into(t, &p)
		if a.status != c.status || a.header.Get("Allow") != c.allow || !strings.Contains(a.body, c.inBody) {
			t.Errorf("%s %s: %d, Allow %q, %s", c.method, c.path, a.status, a.header.Get("Allow"), a.body)
		}
	}
}

func TestWhatIsNoHTTPIsToldInJSONAndTheEngineGoesOn(t *testing.T) {
	r := start(t, twoPools)
	for name, raw := range map[string]struct{ send, want string }{
		"garbage":       {"\x00\x01\x02 garbage\r\n\r\n", "HTTP/1.1 400"},
		"huge header":   {"GET /healthz HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("a", 200<<10) + "\r\n\r\n", "HTTP/1.1 431"},
		"bad length":    {"POST /decide HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", "HTTP/1.1 400"},
		"broken chunks": {"POST /decide HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400"},
	} {
		nc, err := net.Dial("unix", r.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = nc.Write([]byte(raw.send))
		buf := make([]byte, 4096)
		n, _ := nc.Read(buf)
		nc.Close()
		if got := string(buf[:n]); !strings.HasPrefix(got, raw.want) || !strings.Contains(got, `{"error":`) || !strings.Contains(got, "Weir-Protocol: 1") {
			t.Errorf("%s: %q", name, got)
		}
	}
	// Case 24: a cookie of 64 KiB is nothing to the engine.
	if a := r.ask("GET", "/healthz", "", "Cookie", strings.Repeat("a", 64<<10)); a.status != 200 {
		t.Errorf("64 KiB of cookie: %d %s", a.status, a.body)
	}
}

func TestManyCallsAtOnce(t *testing.T) {
	r := start(t, twoPools)
	c := r.client()
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 60 {
				switch (w + i) % 4 {
				case 0:
					if a := do(t, c, "POST", "http://weir/decide", `{"pool":"api","class":"GET /`+strconv.Itoa(i)+`","pick":true}`); a.status != 200 {
						t.Errorf("%d %s", a.status, a.body)
					}
				case 1:
					body := `{"pool":"api","class":"GET /` + strconv.Itoa(i) + `","peer":"10.0.0.` + strconv.Itoa(1+i%2) + `:80","total_ms":3}`
					if a := do(t, c, "POST", "http://weir/observe", body, "Content-Type", ndjson); a.status != 200 {
						t.Errorf("%d %s", a.status, a.body)
					}
				case 2:
					if a := do(t, c, "GET", "http://weir/watch?wait=5", ""); a.status != 200 {
						t.Errorf("%d %s", a.status, a.body)
					}
				case 3:
					if a := r.manage("GET", "/api/metrics", ""); a.status != 200 {
						t.Errorf("%d %s", a.status, a.body)
					}
				}
			}
		})
	}
	all.Wait()
}
