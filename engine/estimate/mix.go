package estimate

import "math"

// mix is the mix of requests that a peer gets, as a typical peer would serve them: their service times in mean requests of the pool, so that it means
// the same whatever happens to the estimates of the peer and to the scale of the pool. Of a request it counts what is expected of its class and size.
type mix struct {
	n      float64 // answers it is of, at most mixMemory
	mean   float64 // service time
	square float64 // mean square of a service time
	noise  float64 // mean square of how far a request leaves what is finished from what was worked
	within float64 // squared coefficient of variation of a service time of which class and size are known
}

const (
	mixMemory = 200.0
	// Answers' worth of a mean request of the pool, and of exponential service times, that are assumed.
	meanPrior, cv2Prior = 5.0, 20.0
	cv2Low, cv2High     = 0.05, 6.0
)

// add takes an answer whose service time is expected to be base; cv2 is the squared coefficient of variation of those like it.
func (m *mix) add(base, cv2 float64) {
	m.n = min(m.n+1, mixMemory)
	m.mean += (base - m.mean) / m.n
	m.square += (base*base*(1+cv2) - m.square) / m.n
	// When it ends, it has taken other than its class was expected to, by cv2; until then it has been worked on and nothing is finished, of which the half counts
	// as much for exponential times. Where classes are of fixed length the first is nothing, and pools of equal peers had 1.06 of least_conn's mean instead of 1.02.
	m.noise += (base*base*max(cv2, (1+cv2)/2) - m.noise) / m.n
	m.within += (cv2 - m.within) / m.n
}

// request is the mean request, in mean requests of the pool; shrunk to 1.
func (m *mix) request() float64 {
	return max((m.mean*m.n+meanPrior)/(m.n+meanPrior), 1e-6)
}

// cv2 is the squared coefficient of variation of a service time; shrunk to 1 (exponential), and bounded: waits are reckoned by it.
func (m *mix) cv2() float64 {
	mean := m.request()
	return min(max((m.square/(mean*mean)*m.n+2*cv2Prior)/(m.n+cv2Prior)-1, cv2Low), cv2High)
}

// The likelihoods of speed (drift) and of K (curve) are those of exponential service times of one mean, which dispersion flattens a little. Classes of very
// different length make them far too sure: of a light request of 5 ms and one of 1 s in twenty, each of the latter reads as a stall for as long as it runs and
// as eighteen completions when it ends. Ten equal peers at a load of .7 had speeds of .1 to 1.5 and K of 2 to 4, and 1.09 of least_conn's mean; three classes
// of 5, 20 and 200 ms 1.03, lognormal service times of a cv of 4 1.11. With both of the following 1.01, .99 and 1.02; and where they do differ, speeds .15 to
// 1.05 and that lognormal, .84 instead of .97. So each likelihood is flattened by how much more its evidence varies than that.

// burst is that of the work finished in a time: its index of dispersion, var / mean in mean requests (Cox and Lewis 1966), where class and size are known
// when a request ends, to the power of 3/4. By all of it a peer that does turn slow is noticed too late: a brown-out with the light and heavy requests above
// had 1.10 of least_conn's mean then, .97 to 1.01 so.
func (m *mix) burst() float64 {
	mean := m.request()
	return math.Pow(max(m.noise/(mean*mean), 1), 0.75)
}

// scatter is that of response times at one in-flight count, over all classes: their squared coefficient of variation.
func (m *mix) scatter() float64 {
	mean := m.request()
	return max(m.square/(mean*mean)-1, 1)
}
