package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/weirlb/weir/engine/serve"
)

// healthCmd is the health check of a container that has no shell and no curl. It asks over the socket, as NGINX does, and reads no
// configuration: a file that a running engine refused must not make it look dead.
type healthCmd struct {
	Socket  string        `default:"/run/weir/engine.sock" env:"WEIR_SOCKET" help:"The engine's socket." placeholder:"PATH"`
	Timeout time.Duration `default:"3s" help:"How long to wait for the answer." placeholder:"TIME"`
}

// Run says the status and ends with 1 when the engine does not answer or cannot serve. A degraded one serves.
func (c *healthCmd) Run(to streams) error {
	if c.Timeout <= 0 { // to net/http: without end
		return fmt.Errorf("--timeout must be above 0, not %v", c.Timeout)
	}
	client := http.Client{Timeout: c.Timeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		},
	}}
	res, err := client.Get("http://weir/healthz")
	if err != nil {
		return fmt.Errorf("asking the engine at %s: %w", c.Socket, err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct{ Status serve.Status }
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("the engine at %s answered %s: %w", c.Socket, res.Status, err)
	}
	fmt.Fprintln(to.out, answer.Status)
	if res.StatusCode != http.StatusOK {
		return errQuiet
	}
	return nil
}
