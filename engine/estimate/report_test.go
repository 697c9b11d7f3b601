package estimate_test

import (
	"testing"

	"github.com/weirlb/weir/engine/estimate"
)

// reporter is a pool of two peers of which the first answers at given times.
type reporter struct {
	*estimate.Pool
	class int
}

func newReporter(r estimate.Reports) reporter {
	p := estimate.New(estimate.Options{Reports: r})
	p.SetPeers(0, []string{"a", "b"})
	return reporter{p, p.Class(0, "GET /")}
}

// answers has peer a answer at a time; load and held as in estimate.Outcome.
func (r reporter) answers(now, load, held float64) {
	r.Observe(now, estimate.Outcome{Class: r.class, TotalMS: 20, HeaderMS: 20, ReportedLoad: load, ReportedInFlight: held})
	r.InFlight(now, 0, 0)
	r.Refresh(now)
}

func (r reporter) want(t *testing.T, when string, state estimate.ReportState, load float64, others bool) {
	t.Helper()
	v := r.Peer(0)
	if v.ReportState != state || (v.ReportedLoad < 0) != (load < 0) || load >= 0 && (v.ReportedLoad < load-0.1 || v.ReportedLoad > load+0.1) || (v.Others > 0) != others {
		t.Errorf("%s: reports %s, load %.2f, %.2f requests of others; want %s, %.2f, %v", when, v.ReportState, v.ReportedLoad, v.Others, state, load, others)
	}
}

func TestTheFirstReportsOfAPeerAreNotUsedForTheBlackout(t *testing.T) {
	r := newReporter(estimate.Reports{BlackoutMS: 5000, ExpireMS: 60_000})
	r.answers(1000, -1, -1)
	r.want(t, "without a report", estimate.NoReports, -1, false)
	for now := 2000.0; now < 7000; now += 100 { // the blackout begins with the first report, not with the peer
		r.answers(now, 0.9, 8)
		r.want(t, "in the blackout", estimate.ReportsWait, -1, false)
	}
	for now := 7000.0; now < 8000; now += 100 {
		r.answers(now, 0.9, 8)
	}
	r.want(t, "after it", estimate.ReportsCount, 0.9, true)
	if v := r.Peer(0); v.ReportedHeld != 8 || v.ReportAgeMS != 0 || v.Reports != 60 {
		t.Errorf("after it: %+v", v)
	}
}

func TestReportsExpireWhenNoneCome(t *testing.T) {
	r := newReporter(estimate.Reports{BlackoutMS: -1, ExpireMS: 30_000})
	for now := 100.0; now < 2000; now += 100 {
		r.answers(now, 0.9, 8)
	}
	r.want(t, "with reports", estimate.ReportsCount, 0.9, true)
	r.Refresh(31_800)
	r.want(t, "before they expire", estimate.ReportsCount, 0.9, true)
	r.Refresh(32_000)
	r.want(t, "when they have expired", estimate.NoReports, -1, false)
	if v := r.Peer(0); v.ReportedHeld >= 0 || v.ReportAgeMS >= 0 {
		t.Errorf("when they have expired: %+v", v)
	}
}

func TestTheBlackoutComesAgainAfterExpiryAndAfterAReturn(t *testing.T) {
	for what, lose := range map[string]func(r reporter){
		"expiry":   func(r reporter) { r.Refresh(50_000) },
		"a return": func(r reporter) { r.Returned(0) },
		"leaving and coming back": func(r reporter) {
			r.SetPeers(49_000, []string{"b"})
			r.SetPeers(49_000, []string{"a", "b"})
		},
	} {
		r := newReporter(estimate.Reports{BlackoutMS: 5000, ExpireMS: 30_000})
		for now := 100.0; now < 10_000; now += 100 {
			r.answers(now, 0.9, 8)
		}
		r.want(t, "before "+what, estimate.ReportsCount, 0.9, true)
		lose(r)
		r.want(t, "right after "+what, estimate.NoReports, -1, false)
		r.answers(50_100, 0.9, 8)
		r.want(t, "with the first report after "+what, estimate.ReportsWait, -1, false)
		r.answers(55_000, 0.9, 8)
		r.want(t, "at the end of the blackout after "+what, estimate.ReportsWait, -1, false)
		for now := 55_100.0; now < 55_500; now += 100 {
			r.answers(now, 0.9, 8)
		}
		r.want(t, "when it is over after "+what, estimate.ReportsCount, 0.9, true)
	}
}

func TestTheLatestReportIsTheOneShownInWhateverOrderTheyCome(t *testing.T) {
	r := newReporter(estimate.Reports{BlackoutMS: -1})
	for _, at := range []float64{1000, 1300, 1100, 1200} {
		r.Observe(at, estimate.Outcome{Class: r.class, TotalMS: 20, HeaderMS: 20, ReportedLoad: -1, ReportedInFlight: at / 100})
	}
	if v := r.Peer(0); v.ReportedHeld != 13 || v.Reports != 4 {
		t.Errorf("%v held by the last of %d reports, want 13 of 4", v.ReportedHeld, v.Reports)
	}
}

// gRFC A58: 180 s and 10 s.
func TestThePeriodsAreThoseOfGRPCUnlessTold(t *testing.T) {
	r := newReporter(estimate.Reports{})
	r.answers(1000, 0.5, 3)
	r.answers(10_999, 0.5, 3)
	r.want(t, "within 10 s", estimate.ReportsWait, -1, false)
	r.answers(11_000, 0.5, 3)
	r.answers(11_100, 0.5, 3)
	r.want(t, "after 10 s", estimate.ReportsCount, 0.5, true)
	r.Refresh(191_000)
	r.want(t, "within 180 s of the last", estimate.ReportsCount, 0.5, true)
	r.Refresh(191_200)
	r.want(t, "after 180 s without", estimate.NoReports, -1, false)
}
