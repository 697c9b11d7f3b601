package returns

// least is the shortest service, as a part of the response time: a ratio to it stays finite.
const least = 1e-5

// Serve sets Service from when each request ended: how long a slot must have worked on it, the peer being first come first served
// in front of Slots slots. A balancer sees answers and not slots, so this is all it can know; where the peer is not so, or Slots is
// not right, an answer may come before its slot was free: its service is then taken as nearly nothing.
//
// Arrived is in order. ended has the same order.
func (l *Log) Serve(ended []float64) {
	l.Service = l.Service[:0]
	free := make([]float64, l.Slots)
	for i := range free {
		free[i] = -1e18
	}
	for i, a := range l.Arrived {
		total := max(ended[i]-a, 0)
		service := ended[i] - max(a, free[0])
		service = max(service, total*least)
		l.Service = append(l.Service, service)
		// The slot is free when the answer says so.
		end := ended[i]
		n := 1
		for n < len(free) && free[n] < end {
			free[n-1] = free[n]
			n++
		}
		free[n-1] = end
	}
}
