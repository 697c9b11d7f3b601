package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/weirlb/weir/engine/observe"
)

// traffic tells an engine of outcomes as an NGINX would: a compact batch each 100 ms.
type traffic struct {
	eng     *engine
	peers   []string
	classes int
	perS    int
	seed    uint64

	rnd  *rand.Rand
	sent int
}

// run sends for a while. Every pair of peer and class gets its share.
func (t *traffic) run(b *bench, d time.Duration) error {
	if t.rnd == nil {
		t.rnd = rand.New(rand.NewPCG(t.seed, 0))
	}
	const every = 100 * time.Millisecond
	for end := time.Now().Add(d); time.Now().Before(end); {
		next := time.Now().Add(every)
		for left := t.perS / 10; left > 0; left -= 2048 { // MAX_SHIP of observe.lua
			if err := t.send(min(left, 2048)); err != nil {
				return err
			}
		}
		if err := b.sleep(time.Until(next)); err != nil {
			return err
		}
	}
	return nil
}

func (t *traffic) send(n int) error {
	batch := observe.Batch{Instance: "bench"}
	for range n {
		peer, class := t.rnd.IntN(len(t.peers)), t.rnd.IntN(t.classes)
		inflight := uint16(t.rnd.IntN(8))
		took := float32((1 + float64(peer%7)/3) * (1 + float64(class%5)) * (1 + float64(inflight)/8) * (0.5 + t.rnd.ExpFloat64()/2))
		err := batch.Add("api", fmt.Sprintf("GET /c%d/{n}", class), t.peers[peer], observe.Record{
			Attempt: 1, Status: 200, Inflight: inflight, Propensity: 0.5, HeaderMS: took, TotalMS: took, PredictedMS: observe.None, Load: observe.None,
			AgeMS: float32(t.rnd.Float64() * 100),
		})
		if err != nil {
			return err
		}
	}
	for i := range t.peers {
		batch.Inflight = append(batch.Inflight, observe.Inflight{Pool: "api", Peer: t.peers[i], Count: t.rnd.IntN(8)})
	}
	body, err := batch.AppendCompact(nil)
	if err != nil {
		return err
	}
	resp, err := t.eng.unix.Post("http://engine/observe", "application/x-weir-observe", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("sending outcomes: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the engine refused outcomes: %s: %s", resp.Status, text)
	}
	t.sent += n
	return nil
}
