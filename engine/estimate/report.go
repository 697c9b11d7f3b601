package estimate

// reports is what a peer said of its own load with its answers (ORCA), and whether that is to be believed.
//
// The two periods are those of gRFC A58. The first reports of a peer that just came tell of caches to be filled and of the requests it
// got at once, so for a while (the blackout) nothing is made of them. A peer that has said nothing for long is taken for one that does
// not report: what it said last is of another time.
type reports struct {
	count uint64
	since float64 // of the first report since the peer came, came back or fell silent
	at    float64 // of the last
	held  float64 // requests it held by the last that told; negative = none
}

// ReportState says what is made of a peer's load reports.
type ReportState string

// The states of a peer's load reports.
const (
	NoReports    ReportState = "none"     // it sends none, or has not for long
	ReportsWait  ReportState = "blackout" // too early to believe them
	ReportsCount ReportState = "used"
)

// Reports are the rules for load reports; see Options.
type Reports struct {
	ExpireMS   float64 // without a report for so long, a peer's load is not known; 0 = 180000
	BlackoutMS float64 // after the first report, none is used for so long; 0 = 10000, negative = none
}

func (r Reports) sane() Reports {
	if !(r.ExpireMS > 0) {
		r.ExpireMS = 180_000
	}
	if r.BlackoutMS == 0 || r.BlackoutMS != r.BlackoutMS {
		r.BlackoutMS = 10_000
	}
	return r
}

// SetReports changes the rules for load reports.
func (p *Pool) SetReports(r Reports) { p.opt.Reports = r.sane() }

// Returned tells that peer i came back from where it got no traffic: what it reported before is of another time, and so is that it failed each request.
func (p *Pool) Returned(i int) {
	if i >= 0 && i < len(p.peers) {
		p.peers[i].unreport()
		p.peers[i].fail.over()
	}
}

// unreport forgets what the peer said of its load.
func (pe *peer) unreport() {
	pe.load, pe.others = -1, others{}
	pe.reports = reports{count: pe.reports.count, held: -1}
}

// report takes in what an outcome says of the peer's load, and gives what of it may be used: utilisation and requests held, negative = none.
func (p *Pool) report(now float64, pe *peer, o *Outcome) (load, held float64) {
	load, held = -1, -1
	if o.ReportedLoad >= 0 && o.ReportedLoad < 1000 {
		load = o.ReportedLoad
	}
	if o.ReportedInFlight >= 0 && o.ReportedInFlight < 1e9 {
		held = o.ReportedInFlight
	}
	if load < 0 && held < 0 {
		return load, held
	}
	r := &pe.reports
	p.expire(now, pe)
	if r.at == 0 {
		r.since = now
	}
	r.count++
	if held >= 0 && now >= r.at { // NGINX's workers report on timers of their own: the latest may come before older ones
		r.held = held
	}
	r.at = max(r.at, now, minMS)
	if now-r.since < p.opt.Reports.BlackoutMS {
		return -1, -1
	}
	if load >= 0 {
		if pe.load < 0 {
			pe.load = load
		}
		pe.load += (load - pe.load) / 10
	}
	return load, held
}

// expire forgets the reports of a peer that sends none any more.
func (p *Pool) expire(now float64, pe *peer) {
	if pe.reports.at > 0 && now-pe.reports.at > p.opt.Reports.ExpireMS {
		pe.unreport()
	}
}

func (p *Pool) reportState(pe *peer) ReportState {
	switch {
	case pe.reports.at == 0:
		return NoReports
	case p.now-pe.reports.since < p.opt.Reports.BlackoutMS:
		return ReportsWait
	}
	return ReportsCount
}
