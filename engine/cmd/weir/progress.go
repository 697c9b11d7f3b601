package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// bar shows on a terminal how far a simulation is. On anything else it shows nothing.
type bar struct {
	to    io.Writer // nil = nobody looks
	total int64
	done  atomic.Int64
	began time.Time
	quit  chan struct{}
	ended sync.WaitGroup
	once  sync.Once

	mu    sync.Mutex // guards shown and the writing to `to`
	shown bool
}

const barEvery = 200 * time.Millisecond

// startBar starts drawing; stop ends it.
func startBar(to io.Writer, total int) *bar {
	b := &bar{total: int64(max(total, 1)), began: time.Now(), quit: make(chan struct{})}
	if !terminal(to) {
		return b
	}
	b.to = to
	b.ended.Go(func() {
		tick := time.NewTicker(barEvery)
		defer tick.Stop()
		for {
			select {
			case <-b.quit:
				return
			case <-tick.C:
				b.draw(time.Since(b.began))
			}
		}
	})
	return b
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// add counts n more requests. Safe for concurrent use; the error is always nil.
func (b *bar) add(n int) error {
	b.done.Add(int64(n))
	return nil
}

func (b *bar) draw(elapsed time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fmt.Fprint(b.to, "\r"+line(b.done.Load(), b.total, elapsed)+"\x1b[K")
	b.shown = true
}

// line is one state of the bar, without control characters.
func line(done, total int64, elapsed time.Duration) string {
	const width = 30
	done = min(done, total)
	full := int(done * width / total)
	rate := float64(done) / max(elapsed.Seconds(), 1e-3)
	left := "?"
	if done > 0 {
		left = time.Duration(float64(total-done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("[%s%s] %3d %%  %.2f M requests/s  %s left", strings.Repeat("#", full), strings.Repeat(".", width-full),
		done*100/total, rate/1e6, left)
}

// hide takes the bar away until it is drawn again, so that results can be written.
func (b *bar) hide() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown {
		fmt.Fprint(b.to, "\r\x1b[K")
		b.shown = false
	}
}

// stop ends the drawing and waits for it. It may be called again.
func (b *bar) stop() {
	b.once.Do(func() {
		close(b.quit)
		b.ended.Wait()
		b.hide()
	})
}
