package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// engine is a running `weir serve`.
type engine struct {
	*process
	socket, admin string
	web, unix     *http.Client
}

// engine starts one with the pool "api"; settings is YAML of the pool, indented by four.
func (b *bench) engine(name string, peers []string, settings string) (*engine, error) {
	return b.engineKeeping(name, peers, settings, fmt.Sprintf("{dir: %s-history}", name))
}

// engineKeeping is engine with a value for the key history.
func (b *bench) engineKeeping(name string, peers []string, settings, history string) (*engine, error) {
	return b.engineWith(name, peers, settings, "history: "+history+"\n")
}

// engineWith is engine with whole lines of YAML for the top of its file.
func (b *bench) engineWith(name string, peers []string, settings, top string) (*engine, error) {
	var list strings.Builder
	for _, p := range peers {
		fmt.Fprintf(&list, "      - %q\n", p)
	}
	return b.engineOf(name, "  - name: api\n"+settings+"    peers:\n"+list.String(), top)
}

// engineOf starts an engine with these pools, as YAML, and whole lines for the top of its file.
func (b *bench) engineOf(name, pools, top string) (*engine, error) {
	bin := filepath.Join(b.dir, "bin-weir")
	if _, err := os.Stat(bin); err != nil {
		if _, err := b.build("./engine/cmd/weir"); err != nil {
			return nil, err
		}
	}
	admin, err := b.addrs(1)
	if err != nil {
		return nil, err
	}
	e := &engine{socket: filepath.Join(b.dir, name+".sock"), admin: admin[0], web: &http.Client{Timeout: 10 * time.Second}}
	e.unix = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", e.socket)
		},
	}}
	text := fmt.Sprintf("socket: {path: %s}\nadmin: {listen: %q}\nlog: {level: info}\n%spools:\n%s", e.socket, e.admin, top, pools)
	file := filepath.Join(b.dir, name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return nil, err
	}
	if e.process, err = b.start(name, nil, bin, "serve", "--config", file); err != nil {
		return nil, err
	}
	return e, b.await(e.process, name, func() error { return getJSON(e.web, "http://"+e.admin+"/api/health", nil) })
}

// getJSON reads a JSON answer.
func getJSON(client *http.Client, url string, into any) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
