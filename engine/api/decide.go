package api

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/weirlb/weir/engine/class"
	"github.com/weirlb/weir/engine/jsonread"
	"github.com/weirlb/weir/engine/serve"
)

// question is the body of /decide and of /api/route. It is reused: reading one and finding its table allocates nothing
// unless the class has to be made.
type question struct {
	in jsonread.Reader

	pool, class, method, path []byte
	hasClass, hasPath         bool
	bodyBytes                 int64
	pick                      bool
	inflight                  map[string]float64
	weight                    float64
	seen                      uint // the keys that were read, a bit each as in questionKeys
	scratch
}

var questionKeys = [...]string{"pool", "class", "method", "path", "body_bytes", "pick", "inflight", "weight"}

// questions keeps them for reuse.
type questions struct{ pool *sync.Pool }

func newQuestions() questions {
	return questions{&sync.Pool{New: func() any { return &question{scratch: newScratch()} }}}
}

func (k questions) get() *question  { return k.pool.Get().(*question) }
func (k questions) put(q *question) { k.pool.Put(q) }

// read takes in a body. Unknown keys are refused: a misspelt one would be answered as if it were not there.
func (q *question) read(body []byte) error {
	*q = question{in: q.in, scratch: q.scratch, pool: q.pool[:0], class: q.class[:0], method: q.method[:0], path: q.path[:0]}
	q.in.Reset(body)
	more, err := q.in.First('{', '}')
	for ; more && err == nil; more, err = q.in.Next('}') {
		var key []byte
		if key, err = q.in.Key(); err != nil {
			return err
		}
		if err = q.value(key); err != nil {
			return err
		}
	}
	if err == nil {
		err = q.in.End()
	}
	switch {
	case err != nil:
		return err
	case len(q.pool) == 0:
		return errors.New(`"pool" is missing`)
	case !utf8.Valid(q.class) || !utf8.Valid(q.pool) || !utf8.Valid(q.path):
		return errors.New("the body is not valid UTF-8")
	case len(q.method) > 0 && !q.hasPath:
		return errors.New(`"method" without "path"`)
	}
	return nil
}

func (q *question) value(key []byte) (err error) {
	in := &q.in
	n := 0
	for i, name := range questionKeys {
		if string(key) == name {
			if q.seen&(1<<i) != 0 {
				return fmt.Errorf("%q is there twice", key)
			}
			q.seen |= 1 << i
		}
	}
	switch string(key) {
	case "pool":
		q.pool, err = q.text(q.pool)
	case "class":
		q.class, err = q.text(q.class)
		q.hasClass = true
	case "method":
		q.method, err = q.text(q.method)
	case "path":
		q.path, err = q.text(q.path)
		q.hasPath = true
	case "body_bytes":
		var x float64
		if x, err = in.Number(); err == nil && (x < -1 || x != math.Trunc(x) || x > 1<<53) {
			err = fmt.Errorf("%v is no number of bytes, nor -1 for unknown", x)
		}
		q.bodyBytes = int64(x)
	case "pick":
		q.pick, err = in.Bool()
	case "inflight":
		q.inflight = map[string]float64{}
		more, ierr := in.First('{', '}')
		for ; more && ierr == nil; more, ierr = in.Next('}') {
			var addr []byte
			if addr, ierr = in.Key(); ierr != nil {
				break
			}
			name := canonical(string(addr))
			if _, twice := q.inflight[name]; twice {
				ierr = fmt.Errorf("%q is there twice", name)
				break
			}
			if n, ierr = in.Integer(math.MaxInt32); ierr != nil {
				break
			}
			q.inflight[name] = float64(n)
		}
		err = ierr
	case "weight":
		if q.weight, err = in.Number(); err == nil && !(q.weight >= 0 && q.weight <= math.MaxFloat32) {
			err = fmt.Errorf("%v is no weight", q.weight)
		}
	default:
		return fmt.Errorf("%q is no key of it; the keys are pool class method path body_bytes pick inflight weight", key)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

func (q *question) text(into []byte) ([]byte, error) {
	raw, err := q.in.Str()
	return append(into[:0], raw...), err
}

// find finds the table and the row a question is about, or answers why there is none.
func (q *question) find(c *call, eng *serve.Engine) (s *serve.Snapshot, row int, ok bool) {
	state := eng.State()
	if s = state.PoolBytes(q.pool); s == nil {
		c.failError(&serve.UnknownError{What: "pool", Name: string(q.pool), Known: state.Names()})
		return nil, 0, false
	}
	if len(s.Peers) == 0 {
		message := fmt.Sprintf("pool %q has no peers: add peers to it in weir.yaml, or to what its sources are", s.Name)
		if s.Pending {
			message = fmt.Sprintf("pool %q has no peers yet: its sources have named none; /api/health says why", s.Name)
		}
		c.fail(fasthttp.StatusServiceUnavailable, message)
		return nil, 0, false
	}
	switch {
	case q.hasClass:
		row = s.Class(q.class)
		if row == 0 {
			row = s.Class([]byte(class.Name(string(q.class))))
		}
	case q.hasPath:
		method := "GET"
		if len(q.method) > 0 {
			method = string(q.method)
		}
		row = s.Class([]byte(class.Of(method, string(q.path), q.bodyBytes)))
	}
	return s, row, true
}

func (s *socket) decide(c *call) {
	body := c.PostBody()
	if len(body) > maxDecideBody {
		c.fail(fasthttp.StatusRequestEntityTooLarge, fmt.Sprintf("the body may have %d bytes", maxDecideBody))
		return
	}
	q := s.asked.get()
	defer s.asked.put(q)
	if err := q.read(body); err != nil {
		c.fail(fasthttp.StatusBadRequest, "the body is no question for a table: "+err.Error())
		return
	}
	s.eng.Decided()
	snap, row, ok := q.find(c, s.eng)
	if !ok {
		return
	}
	table := snap.Decide(row)
	if !q.pick {
		c.raw(fasthttp.StatusOK, table)
		return
	}
	p, ok := choose(snap, row, q)
	if !ok {
		c.fail(fasthttp.StatusServiceUnavailable, fmt.Sprintf("pool %q has no usable peer", snap.Name))
		return
	}
	c.raw(fasthttp.StatusOK, nil)
	q.out = p.append(q.out[:0])
	for _, part := range [][]byte{table[:len(table)-1], []byte(`,"pick":`), q.out, []byte("}")} {
		c.Response.AppendBody(part)
	}
}
