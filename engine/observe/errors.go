package observe

import (
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// ErrTooMany: the batch has more records than MaxRecords or the body more bytes than MaxBody. Nothing of it is kept,
// so that the sender can cut it in two and send both halves.
var ErrTooMany = fmt.Errorf("a batch may have at most %d records in %d bytes; send it in parts", MaxRecords, MaxBody)

// ErrHeader is wrapped by every error in the header line of the compact form. Nothing of such a batch is kept, since
// the records mean nothing without it.
var ErrHeader = errors.New("the header line of the batch")

// VersionError: the header has another "v" than this package reads.
type VersionError struct{ Got float64 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the batch is in version %g of the observe format; this engine reads version 1", e.Got)
}

// RecordError names the first bad record. The records before it are in the batch.
type RecordError struct {
	Record int // from 0
	Reason string
}

func (e *RecordError) Error() string { return fmt.Sprintf("record %d: %s", e.Record, e.Reason) }

const tooManyNames = "the batch names more than 4096 different pools, classes or peers"

func nameFault(name string) string {
	switch {
	case len(name) > MaxName:
		return fmt.Sprintf("a name of %d bytes; at most %d are allowed", len(name), MaxName)
	case !utf8.ValidString(name):
		return "a name is not valid UTF-8"
	}
	return ""
}

// fault says what is wrong with the numbers of a record, or "". The comparisons are written so that NaN fails them.
func (r *Record) fault() string {
	switch {
	case r.Attempt < 1:
		return "attempt is 0; the first attempt is 1"
	case r.Kind >= kinds:
		return fmt.Sprintf("kind %d is unknown; the kinds are 0 to %d", uint8(r.Kind), Kinds-1)
	case !(r.Propensity > 0 && r.Propensity <= 1):
		return fmt.Sprintf("propensity %v is outside (0, 1]", r.Propensity)
	case !finite(r.HeaderMS) && r.HeaderMS != None:
		return fmt.Sprintf("header_ms %v is neither a finite time from 0 up nor -1 for none", r.HeaderMS)
	case !finite(r.TotalMS):
		return fmt.Sprintf("total_ms %v is not a finite time from 0 up", r.TotalMS)
	case !finite(r.Weight):
		return fmt.Sprintf("weight %v is not a finite number from 0 up", r.Weight)
	case !finite(r.PredictedMS) && r.PredictedMS != None:
		return fmt.Sprintf("predicted_ms %v is neither a finite time from 0 up nor -1 for none", r.PredictedMS)
	case !finite(r.AgeMS):
		return fmt.Sprintf("age_ms %v is not a finite time from 0 up", r.AgeMS)
	case !finite(r.Work):
		return fmt.Sprintf("work %v is not a finite number from 0 up", r.Work)
	case !finite(r.Load) && r.Load != None:
		return fmt.Sprintf("load %v is neither a finite number from 0 up nor -1 for none", r.Load)
	}
	return ""
}

func finite(x float32) bool { return x >= 0 && x <= math.MaxFloat32 }
