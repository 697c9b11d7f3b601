package serve

import (
	"time"

	"github.com/weirlb/weir/engine/telemetry"
)

// LearningView is where online learning stands, for people.
type LearningView struct {
	Enabled    bool           `json:"enabled"`
	Phase      string         `json:"phase"` // idle, offline, shadow or watched
	Model      string         `json:"model"` // the candidate, or the model that is watched
	SinceMS    float64        `json:"since_ms"`
	NextMS     *float64       `json:"next_candidate_ms"` // until the next candidate is due, if there are enough decisions; null while one is being tried
	Made       uint64         `json:"candidates"`
	Decisions  int            `json:"decisions"` // in the replay store
	Bytes      int            `json:"bytes"`
	New        uint64         `json:"new_decisions"` // since the last candidate
	Need       int            `json:"new_decisions_needed"`
	Controls   float64        `json:"control_requests"` // since the model that serves is live
	CPUSeconds float64        `json:"cpu_seconds"`
	Attempts   LearningCounts `json:"attempts"`
}

// LearningCounts tell what became of the attempts that the learner heard of.
type LearningCounts struct {
	Heard    uint64 `json:"heard"`
	Replayed uint64 `json:"replayed"`
	Thinned  uint64 `json:"thinned"`   // above the rate that is kept
	NoFrame  uint64 `json:"no_frame"`  // older than what is remembered of the policy
	NoPeer   uint64 `json:"no_peer"`   // at a peer that was not usable by then
	NoReturn uint64 `json:"no_return"` // aborted, idle races, streams, peers shared with other balancers, requests that tell their size
	Foreign  uint64 `json:"foreign"`   // retries, and picks by another rule
	Lost     uint64 `json:"lost"`      // more than there was room for
}

// Learning returns where online learning stands.
func (e *Engine) Learning() LearningView {
	l := e.learner
	if l == nil {
		return LearningView{Phase: "off"}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.view
}

// publish makes the view; the goroutine calls it between rounds.
func (l *Learner) publish() {
	v, now := l.loop.View(), l.eng.now()
	view := LearningView{
		Enabled: true, Phase: string(v.Gate.Phase), Model: v.Gate.Model, SinceMS: now - v.Gate.SinceMS, Made: v.Made, Decisions: v.Decisions,
		Bytes: v.Bytes, New: v.New, Need: l.conf.MinDecisions, Controls: v.Controls, CPUSeconds: time.Duration(l.worked.Load()).Seconds(),
		Attempts: LearningCounts{
			Heard: v.Counts.Attempts, Replayed: v.Counts.Decisions, Thinned: v.Counts.Thinned, NoFrame: v.Counts.NoFrame, NoPeer: v.Counts.NoPeer,
			NoReturn: v.Counts.NoReturn + v.Counts.Shared + v.Counts.Sized, Foreign: v.Counts.Foreign, Lost: v.Counts.Overflow,
		},
	}
	if view.Phase == "idle" {
		next := max(v.Next, v.Gate.Resting)
		view.NextMS = finite(max(next-now, 0))
		view.Model = ""
	}
	l.mu.Lock()
	l.view = view
	l.mu.Unlock()
}

// gauges are what a scrape reads.
func (l *Learner) gauges() telemetry.LearningGauges {
	v := l.eng.Learning()
	return telemetry.LearningGauges{
		Phase: v.Phase, Decisions: v.Decisions, Bytes: v.Bytes, Candidates: v.Made, CPUSeconds: v.CPUSeconds,
		Attempts: map[string]uint64{
			"replayed": v.Attempts.Replayed, "thinned": v.Attempts.Thinned, "no_frame": v.Attempts.NoFrame, "no_peer": v.Attempts.NoPeer,
			"no_return": v.Attempts.NoReturn, "foreign": v.Attempts.Foreign, "lost": v.Attempts.Lost,
		},
	}
}
