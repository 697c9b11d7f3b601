package telemetry

import "bytes"

// Libraries takes in lines that libraries write for themselves, by package log. They would stand between the JSON lines as they are, however long and as often as a library likes:
// net/http repeats 3,000 bytes of what a peer sent unasked, at each check. Each is an event here, cut, the first of its kind once a minute.
type Libraries struct{ Log *Log }

const (
	kindBytes = 24 // lines that begin alike are of one kind
	lineBytes = 300
)

// Write implements io.Writer; package log hands over a line at a time.
func (l Libraries) Write(line []byte) (int, error) {
	text := string(bytes.ToValidUTF8(bytes.TrimSpace(line), []byte("?")))
	if len(text) > lineBytes {
		text = string(bytes.ToValidUTF8([]byte(text[:lineBytes]), nil))
	}
	l.Log.Repeated("library "+text[:min(len(text), kindBytes)]).Str("line", text).Msg("a library says")
	return len(line), nil
}
