package check

import (
	"errors"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/model/ort"
	"github.com/weirlb/weir/engine/serve"
)

// model reads the model that the configuration names and looks for the library, as the engine would. The engine starts without
// either, so this is where they are errors. Where no pool has the learned policy nobody misses them.
func (c *checker) model() {
	learned := false
	for i := range c.cfg.Pools {
		learned = learned || c.cfg.Pools[i].Policy == config.Learned
	}
	m := c.cfg.Model
	if !learned || m.File == config.ModelNone {
		return
	}
	where := c.at(m.FileAt, "model.file")
	read, err := serve.ReadModel(m.File)
	switch {
	case err == nil:
	case m.File == config.ModelDefault: // how the program was built is no mistake in the file
		c.warnf(where.File, where.Line, where.Key, "%v; the analytic policy serves", err)
	default:
		c.errorf(where.File, where.Line, where.Key, "%v", err)
	}
	if m.Library == config.LibraryBuiltin {
		return
	}
	where = c.at(m.LibraryAt, "model.library")
	switch path, err := ort.Find(m.Library); {
	case err == nil:
		switch err := runs(path, read); {
		case errors.Is(err, ort.ErrNoCgo):
			c.warnf(where.File, where.Line, where.Key, "%v; the analytic policy serves", err)
		case err != nil:
			c.errorf(where.File, where.Line, where.Key, "%v", err)
		}
	case m.Library != "":
		c.errorf(where.File, where.Line, where.Key, "%v", err)
	default:
		c.warnf(where.File, where.Line, where.Key, "%v; without it the analytic policy serves", err)
	}
}

// runs loads the library and opens the model in it, if it is one: what lacks another library, is too old, or is a sound library of something
// else shows in no other way.
func runs(path string, m *serve.Model) error {
	lib, err := ort.Load(path)
	if err != nil {
		return err
	}
	if m != nil {
		var session *ort.Session
		if session, err = lib.Open(m.File, m.Meta); err == nil {
			err = session.Close()
		}
	}
	return errors.Join(err, lib.Close())
}

// group looks for the socket's group, without which the engine does not start. The one of NGINX's workers differs between distributions.
func (c *checker) group() {
	if _, err := c.cfg.Socket.GID(); err != nil {
		where := c.at(c.cfg.SocketGroupAt, "socket.group")
		c.errorf(where.File, where.Line, where.Key, "%v: the engine would not start", err)
	}
}

// at is where a key was set, or the file when that is not known.
func (c *checker) at(where config.Finding, key string) config.Finding {
	if where == (config.Finding{}) {
		return config.Finding{File: c.cfgPath, Key: key}
	}
	return where
}
