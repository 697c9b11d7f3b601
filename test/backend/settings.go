package backend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// Settings is everything about a backend that can be changed while it runs: PATCH /settings on the control port merges a JSON object into
// it. Times are milliseconds, shares are in [0, 1].
type Settings struct {
	// Slots is the number of workers behind the first-come-first-served queue. 0 means that nobody ever waits.
	Slots int `json:"slots"`
	// Speed divides the service time, also of what is being served at the moment of the change. At 0 the work stands still.
	Speed float64 `json:"speed"`
	// Classes gives the service time by the first segment of the path: "light" for /light/anything. A path of no class takes Default.
	Classes map[string]Dist `json:"classes"`
	Default Dist            `json:"default"`
	// Affinity multiplies the service time of a class on this backend.
	Affinity map[string]float64 `json:"affinity"`

	// Fail answers a share of the requests with a status, without a place in the queue.
	Fail *Fail `json:"fail"`
	// Hang is the share of requests that are read and never answered.
	Hang float64 `json:"hang"`
	// Reset breaks a share of the connections (TCP RST) before or inside the answer.
	Reset *Reset `json:"reset"`
	// CloseReused closes a connection without an answer when its second request arrives: what a client sees of a keep-alive time-out that
	// races with its next request.
	CloseReused bool `json:"close_reused"`
	// Raw is sent in place of an answer, as it is, and the connection closed: another service on the port.
	Raw string `json:"raw"`
	// NoKeepAlive ends each connection after its answer.
	NoKeepAlive bool `json:"no_keep_alive"`

	// Refuse closes the listener and the idle connections; requests being served are finished. The port is opened again when it turns false.
	Refuse bool `json:"refuse"`
	// Blackhole keeps the port open but with a full accept queue, so that a connect is neither accepted nor refused.
	Blackhole bool `json:"blackhole"`

	// Memory fills and is told at /metrics; full, the process ends (see Options.Full). Setting it begins anew at From; null empties it.
	Memory *Memory `json:"memory"`

	// Health is the status of /healthz. 0 means that a probe gets no answer.
	Health int `json:"health"`
	// Reports adds a header with the load of the moment to each answer of a worker; see ReportText and so on.
	Reports string `json:"reports"`
	// Headers are added to each answer.
	Headers map[string]string `json:"headers"`
}

// Memory is the part of a backend's memory that is in use, in [0, 1]: From at first, PerS more each second.
type Memory struct {
	From float64 `json:"from"`
	PerS float64 `json:"per_s"`
}

// Fail is a scripted failure answer.
type Fail struct {
	Status  int     `json:"status"`
	AfterMS float64 `json:"after_ms"`
	Share   float64 `json:"share"`
	// Method limits the failure to one method; empty means all.
	Method string `json:"method,omitempty"`
}

// Reset breaks the connection after so many bytes of the answer's body; below 0 before its header.
type Reset struct {
	Share      float64 `json:"share"`
	AfterBytes int     `json:"after_bytes"`
}

// DefaultSettings is a healthy peer with four workers that answers in no time.
func DefaultSettings() Settings {
	return Settings{Slots: 4, Speed: 1, Health: 200}
}

// Dist is a service-time distribution. The zero value is always 0.
type Dist struct {
	// MeanMS is the mean in milliseconds at speed 1.
	MeanMS float64 `json:"mean_ms"`
	// Dist is fixed (also when empty), exp, lognormal or pareto.
	Dist string `json:"dist,omitempty"`
	// CV is the coefficient of variation of a lognormal.
	CV float64 `json:"cv,omitempty"`
	// Shape is the tail index of a Pareto; it must be above 1, or there is no mean.
	Shape float64 `json:"shape,omitempty"`
}

// Draw takes one service time in milliseconds.
func (d Dist) Draw(r *rand.Rand) float64 {
	switch d.Dist {
	case "exp":
		return d.MeanMS * r.ExpFloat64()
	case "lognormal":
		s2 := math.Log(1 + d.CV*d.CV)
		return d.MeanMS * math.Exp(math.Sqrt(s2)*r.NormFloat64()-s2/2)
	case "pareto":
		least := d.MeanMS * (d.Shape - 1) / d.Shape
		return least * math.Pow(1-r.Float64(), -1/d.Shape)
	default:
		return d.MeanMS
	}
}

func (d Dist) validate(key string) error {
	if !(d.MeanMS >= 0) || math.IsInf(d.MeanMS, 0) {
		return fmt.Errorf("%s.mean_ms: %v is not a time", key, d.MeanMS)
	}
	switch d.Dist {
	case "", "fixed", "exp":
	case "lognormal":
		if !(d.CV > 0) {
			return fmt.Errorf("%s.cv: %v; a lognormal needs a coefficient of variation above 0", key, d.CV)
		}
	case "pareto":
		if !(d.Shape > 1) {
			return fmt.Errorf("%s.shape: %v; a Pareto with a mean needs a shape above 1", key, d.Shape)
		}
	default:
		return fmt.Errorf("%s.dist: %q is none of fixed, exp, lognormal, pareto", key, d.Dist)
	}
	return nil
}

// Validate says what a person would have to change.
func (s Settings) Validate() error {
	errs := []error{s.Default.validate("default")}
	if s.Slots < 0 {
		errs = append(errs, fmt.Errorf("slots: %d is negative; 0 means no queue", s.Slots))
	}
	if !(s.Speed >= 0) || math.IsInf(s.Speed, 0) {
		errs = append(errs, fmt.Errorf("speed: %v is no factor", s.Speed))
	}
	for name, d := range s.Classes {
		if name == "" || strings.Contains(name, "/") {
			errs = append(errs, fmt.Errorf("classes: %q cannot be the first segment of a path", name))
		}
		errs = append(errs, d.validate("classes."+name))
	}
	for name, f := range s.Affinity {
		if !(f >= 0) || math.IsInf(f, 0) {
			errs = append(errs, fmt.Errorf("affinity.%s: %v is no factor", name, f))
		}
	}
	if f := s.Fail; f != nil {
		errs = append(errs, status("fail.status", f.Status), share("fail.share", f.Share))
		if !(f.AfterMS >= 0) {
			errs = append(errs, fmt.Errorf("fail.after_ms: %v is not a time", f.AfterMS))
		}
	}
	if r := s.Reset; r != nil {
		errs = append(errs, share("reset.share", r.Share))
	}
	errs = append(errs, share("hang", s.Hang))
	if m := s.Memory; m != nil {
		errs = append(errs, share("memory.from", m.From))
		if !(m.PerS >= 0) || math.IsInf(m.PerS, 0) {
			errs = append(errs, fmt.Errorf("memory.per_s: %v; memory only fills", m.PerS))
		}
	}
	if s.Health != 0 {
		errs = append(errs, status("health", s.Health))
	}
	if s.Refuse && s.Blackhole {
		errs = append(errs, errors.New("refuse and blackhole exclude each other: the port cannot be closed and open"))
	}
	if s.Reports != "" && !slices.Contains(reportFormats(), s.Reports) {
		errs = append(errs, fmt.Errorf("reports: %q is none of %s", s.Reports, strings.Join(reportFormats(), ", ")))
	}
	return errors.Join(errs...)
}

func status(key string, n int) error {
	if n < 200 || n > 599 {
		return fmt.Errorf("%s: %d is no final HTTP status", key, n)
	}
	return nil
}

func share(key string, x float64) error {
	if !(x >= 0 && x <= 1) {
		return fmt.Errorf("%s: %v is not in [0, 1]", key, x)
	}
	return nil
}

// merge returns s with a JSON object laid over it. Unknown keys are errors: a test with a misspelt fault would pass for nothing. s itself is
// not changed; null takes a fault away.
func (s Settings) merge(patch io.Reader) (Settings, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return s, fmt.Errorf("copying the settings: %w", err)
	}
	var out Settings
	if err := json.Unmarshal(text, &out); err != nil {
		return s, fmt.Errorf("copying the settings: %w", err)
	}
	dec := json.NewDecoder(patch)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&out); err != nil {
		return s, fmt.Errorf("settings: %w", err)
	}
	if err := out.Validate(); err != nil {
		return s, err
	}
	return out, nil
}

// Merge lays a JSON object over s, as PATCH /settings does.
func (s Settings) Merge(patch []byte) (Settings, error) {
	return s.merge(bytes.NewReader(patch))
}
