package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// text is a value read from one scalar. The error says only what would be right; the caller adds where, and what
// was there unless it is secret.
type text interface{ fromText(s string) error }

// Objective is what a pool's cost minimises.
type Objective string

// The objectives: the mean response time, or its 99th percentile.
const (
	Mean Objective = "mean"
	P99  Objective = "p99"
)

func (o *Objective) fromText(s string) error { return oneOf(o, s, Mean, P99) }

// Policy is what makes a pool's tables.
type Policy string

// The policies: the analytic one, and the same corrected by the model. Without a model that works the learned one is the analytic one.
const (
	Learned  Policy = "learned"
	Analytic Policy = "analytic"
)

func (p *Policy) fromText(s string) error { return oneOf(p, s, Learned, Analytic) }

// Switch is true or false.
type Switch bool

func (s *Switch) fromText(v string) error {
	switch v {
	case "true", "false":
		*s = v == "true"
		return nil
	}
	return errors.New("must be true or false")
}

// Level is a log level by zerolog's name.
type Level string

func (l *Level) fromText(s string) error {
	return oneOf(l, s, "trace", "debug", "info", "warn", "error")
}

// Method is the method of an active check. Only methods that change nothing on a peer are allowed.
type Method string

func (m *Method) fromText(s string) error { return oneOf(m, s, "GET", "HEAD", "OPTIONS") }

// Protocol is what an active check speaks.
type Protocol string

// The protocols: HTTP/1.1 without and with TLS, and gRPC's health service over HTTP/2 without and with TLS.
const (
	CheckHTTP  Protocol = "http"
	CheckHTTPS Protocol = "https"
	CheckGRPC  Protocol = "grpc"
	CheckGRPCS Protocol = "grpcs"
)

func (p *Protocol) fromText(s string) error {
	return oneOf(p, s, CheckProtocols()...)
}

// CheckProtocols lists them all.
func CheckProtocols() []Protocol { return []Protocol{CheckHTTP, CheckHTTPS, CheckGRPC, CheckGRPCS} }

// TLS tells whether the protocol has TLS under it.
func (p Protocol) TLS() bool { return p == CheckHTTPS || p == CheckGRPCS }

// GRPC tells whether the protocol is gRPC.
func (p Protocol) GRPC() bool { return p == CheckGRPC || p == CheckGRPCS }

func oneOf[T ~string](into *T, s string, valid ...T) error {
	if !slices.Contains(valid, T(s)) {
		names := make([]string, len(valid))
		for i, v := range valid {
			names[i] = string(v)
		}
		return errors.New("must be one of " + strings.Join(names, ", "))
	}
	*into = T(s)
	return nil
}

// Mode is a file mode, written in octal.
type Mode os.FileMode

func (m *Mode) fromText(s string) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return errors.New(`must be an octal file mode as "0660", at most "0777"`)
	}
	if n&0o600 != 0o600 {
		return errors.New(`must let the owner read and write, as "0660"`)
	}
	*m = Mode(n)
	return nil
}

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

// Secret is a text that no log, error or dump may show: every way of printing it gives [redacted].
type Secret string

const redacted = "[redacted]"

func (s *Secret) fromText(v string) error {
	*s = Secret(v)
	return nil
}

// Reveal gives the secret itself, for the one place that needs it.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format covers every verb, %x and %#v included.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText covers JSON and YAML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// URL is an http or https URL. It may carry a password, so it prints without it.
type URL string

func (u *URL) fromText(s string) error {
	if s == "" {
		*u = ""
		return nil
	}
	p, err := url.Parse(s)
	if err != nil || (p.Scheme != "http" && p.Scheme != "https") || p.Hostname() == "" {
		return errors.New(`must be an http or https URL, as "http://127.0.0.1:9090"`)
	}
	*u = URL(s)
	return nil
}

// Reveal gives the URL with its password.
func (u URL) Reveal() string { return string(u) }

func (u URL) String() string {
	p, err := url.Parse(string(u))
	if err != nil {
		return redacted
	}
	return p.Redacted()
}

// Format covers every verb.
func (u URL) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(u.String())) }

// MarshalText covers JSON and YAML.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// StatusSet is a set of HTTP statuses from 100 to 599, one bit each, so that settings stay comparable with ==.
type StatusSet [8]uint64

const (
	statusMin = 100
	statusMax = 599
)

// Contains tells whether the status is in the set. Anything that is no HTTP status is not.
func (s StatusSet) Contains(status int) bool {
	if status < statusMin || status > statusMax {
		return false
	}
	i := status - statusMin
	return s[i/64]&(1<<(i%64)) != 0
}

func statusRange(from, to int) (s StatusSet) {
	for i := from - statusMin; i <= to-statusMin; i++ {
		s[i/64] |= 1 << (i % 64)
	}
	return s
}

func (s *StatusSet) fromText(v string) error {
	wrong := errors.New(`must be statuses from 100 to 599, as "200-399" or "200-299,401"`)
	var set StatusSet
	for part := range strings.SplitSeq(v, ",") {
		lo, hi, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			hi = lo
		}
		from, err1 := strconv.Atoi(strings.TrimSpace(lo))
		to, err2 := strconv.Atoi(strings.TrimSpace(hi))
		if err1 != nil || err2 != nil || from < statusMin || to > statusMax || from > to {
			return wrong
		}
		r := statusRange(from, to)
		for i := range set {
			set[i] |= r[i]
		}
	}
	*s = set
	return nil
}

// String writes the set in its shortest form, ranges and single statuses in order: "200-299,401".
func (s StatusSet) String() string {
	var b strings.Builder
	for i := statusMin; i <= statusMax; i++ {
		if !s.Contains(i) {
			continue
		}
		from := i
		for s.Contains(i + 1) {
			i++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(from))
		if i > from {
			b.WriteString("-" + strconv.Itoa(i))
		}
	}
	return b.String()
}

// MarshalText writes what fromText reads.
func (s StatusSet) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
