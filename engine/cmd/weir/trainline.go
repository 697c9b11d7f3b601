package main

import (
	"fmt"
	"strings"
	"time"
)

// trainLine shows how far a training is: one line that is overwritten on a terminal, rounds only elsewhere.
type trainLine struct {
	to    streams
	live  bool
	began time.Time
}

func newTrainLine(to streams) *trainLine {
	return &trainLine{to: to, live: terminal(to.err), began: time.Now()}
}

func (l *trainLine) show(done float64, line string) {
	whole := strings.Contains(line, " of ") && (strings.Contains(line, "decisions") || strings.HasPrefix(line, "price "))
	switch {
	case l.live:
		fmt.Fprintf(l.to.err, "\r\033[K%3.0f %%  %s  %s", 100*done, time.Since(l.began).Round(time.Second), line)
		if whole {
			fmt.Fprintln(l.to.err)
		}
	case whole:
		fmt.Fprintln(l.to.err, line)
	}
}

func (l *trainLine) end() {
	if l.live {
		fmt.Fprint(l.to.err, "\r\033[K")
	}
}
