package check

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history/stores"
)

// paths looks for what is in the way where the engine puts its socket, its history and the models it shares. What is not there yet it makes.
func (c *checker) paths() {
	socket := c.cfg.Socket.Path
	where := c.at(c.cfg.SocketPathAt, "socket.path")
	if info, err := os.Lstat(socket); err == nil && info.Mode()&fs.ModeSocket == 0 {
		c.errorf(where.File, where.Line, where.Key, "%s exists and is no socket: the engine would leave it alone and not start", socket)
	} else {
		c.folder(where, filepath.Dir(socket))
	}
	c.history()
	c.share()
}

func (c *checker) history() {
	if c.cfg.History.URL == config.HistoryOff {
		return
	}
	c.folder(c.at(c.cfg.HistoryDirAt, "history.dir"), c.cfg.History.Dir)
	where := c.at(c.cfg.HistoryURLAt, "history.url")
	if c.cfg.HistoryURLAt == (config.Finding{}) && c.cfg.Database.Host != "" {
		where.Key = "database"
	}
	file := stores.FilePath(c.cfg.History)
	if file == "" {
		c.driver(where, c.cfg.History.URL)
		return
	}
	if c.cfg.History.URL == "" {
		where = c.at(c.cfg.HistoryDirAt, "history.dir")
	}
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		c.errorf(where.File, where.Line, where.Key, "%s is a folder, where the file of the history would be: no history would be kept", file)
	} else if c.cfg.History.URL != "" {
		c.folder(where, filepath.Dir(file))
	}
}

// share looks for the folder around that of shared models. The engine makes only the last one, since the one around may be a volume that is
// mounted later, so it is no error yet.
func (c *checker) share() {
	l := &c.cfg.Learn
	if !bool(l.Follow) && !bool(l.Federated) {
		return
	}
	if !strings.HasPrefix(l.Share.Reveal(), "file:") {
		if l.Share != c.cfg.History.URL {
			c.driver(c.at(c.cfg.ShareAt, "learn.share"), l.Share)
		}
		return
	}
	u, err := url.Parse(l.Share.Reveal())
	if err != nil {
		return
	}
	around := filepath.Dir(filepath.Clean(u.Path))
	where := c.at(c.cfg.ShareAt, "learn.share")
	if _, err := os.Stat(around); os.IsNotExist(err) {
		c.warnf(where.File, where.Line, where.Key, "there is no folder %s: the engine makes %s in it, but not the way to it, and shares no models until it is there", around, u.Path)
	}
	c.folder(where, around)
}

// driver asks what would connect to a database whether it can read the URL.
func (c *checker) driver(where config.Finding, at config.StoreURL) {
	if err := stores.Check(at); err != nil {
		c.errorf(where.File, where.Line, where.Key, "%v", err)
	}
}

// folder refuses a path at which, or on the way to which, there is something that is no folder.
func (c *checker) folder(where config.Finding, path string) {
	for path = filepath.Clean(path); ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		switch {
		case err == nil && !info.IsDir():
			c.errorf(where.File, where.Line, where.Key, "%s is no folder, and the engine needs one of that name", path)
			return
		case err == nil, path == "/", path == ".":
			return
		}
	}
}
