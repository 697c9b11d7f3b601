package estimate

import "math"

// Features is the number of features of a (peer, class).
const Features = 18

// FeatureNames returns their names, in order. All are scale-free: times are relative to the pool's own typical ones, rates and
// shares are fractions, ages and counts go through a logarithm or x / (1 + x). So one model serves a pool that answers in 2 ms and
// one that answers in 20 s.
func FeatureNames() [Features]string {
	return [Features]string{
		"log_service",     // ln of the expected service time over the pool's mean service time
		"log_base",        // ln of the class's base over the same
		"log_affinity",    // ln of the pair's affinity
		"log_speed_slow",  // ln of the long-run speed
		"log_drift",       // ln of speed now over long-run speed
		"drift_slow",      // probability that the peer works at less than half its long-run speed
		"log_concurrency", // ln K
		"log_work",        // ln of the mean service time of the peer's mix over the pool's mean
		"utilisation",     // arrivals x service / K, in [0, 2]
		"log_inflight",    // ln(1 + in-flight) at the last sample
		"log_latency",     // ln of recent mean latency over the pool's
		"fail_fast",       // fast failure rate
		"fail_slow",       // slow failure rate
		"cv2",             // squared coefficient of variation of the class, / (1 + it)
		"samples_peer",    // n / (n + 100)
		"samples_pair",    // n / (n + 30)
		"age",             // time since the peer's last outcome over the pool's mean gap between outcomes of a peer, x / (10 + x)
		"load",            // reported utilisation, -1 = none, in [-1, 2]
	}
}

// Feature writes the features of class c on peer i. All are finite.
func (p *Pool) Feature(now float64, i, c int, dst *[Features]float32) {
	now = p.tick(now)
	pe := &p.peers[i]
	work := max(p.work, minMS)
	ln := func(x float64) float64 { return min(max(math.Log(max(x, 1e-9)), -8), 8) }
	mean := p.meanWork(pe) / pe.drift.factor
	age := 1.0
	if !math.IsInf(pe.last, -1) {
		gaps := max(now-pe.last, 0) * p.rate
		age = gaps / (10 + gaps)
	}
	latency := 0.0
	if pe.latN > 0 {
		latency = ln(pe.latency / max(p.latency, minMS))
	}
	load := -1.0
	if told := pe.utilisation(); told >= 0 {
		load = min(told, 2)
	}
	cl := &pe.cells[c]
	n := cl.n
	cv2 := p.classes[c].cv2()
	for j, v := range [Features]float64{
		ln(p.service(pe, c) / pe.drift.factor / work),
		ln(p.base(c) / work),
		ln(p.affinity(pe, c)),
		ln(pe.slow),
		ln(pe.drift.factor),
		pe.drift.slow,
		ln(pe.curve.k),
		ln(mean / work),
		min(pe.rate*mean/pe.curve.k, 2),
		math.Log1p(pe.trace.n),
		latency,
		pe.fail.fast,
		pe.fail.slow,
		cv2 / (1 + cv2),
		pe.curve.n / (pe.curve.n + 100),
		n / (n + 30),
		age,
		load,
	} {
		dst[j] = float32(v)
	}
}
