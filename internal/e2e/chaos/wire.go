package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// How an operation ended, as far as its client knows.
var (
	errUnknown = errors.New("the outcome is unknown")
	errNotDone = errors.New("it was surely not done")
)

// patience is how long a client waits for an answer: longer than a server takes to find out that it has none.
const patience = 12 * time.Second

// A respError is an error reply.
type respError string

func (e respError) Error() string { return string(e) }

// A session is a connection of the Redis protocol.
type session struct {
	c net.Conn
	r *bufio.Reader
}

func dialRedis(addr, cache, key string) (*session, error) {
	c, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return nil, err
	}
	s := &session{c, bufio.NewReader(c)}
	if _, err := s.do("AUTH", cache, key); err != nil {
		_ = c.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) close() {
	if s != nil {
		_ = s.c.Close()
	}
}

// send writes a command.
func (s *session) send(args ...string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if err := s.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := io.WriteString(s.c, b.String())
	return err
}

// do sends a command and reads its reply: a string, an int64, nil, a list of these, or a respError as the error.
func (s *session) do(args ...string) (any, error) {
	if err := s.send(args...); err != nil {
		return nil, err
	}
	return s.read()
}

func (s *session) read() (any, error) {
	line, err := s.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("an empty line")
	}
	rest := line[1:]
	switch line[0] {
	case '+':
		return rest, nil
	case '-':
		return nil, respError(rest)
	case ':':
		return strconv.ParseInt(rest, 10, 64)
	case '$':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return nil, err
		}
		b := make([]byte, n+2)
		_, err = io.ReadFull(s.r, b)
		return string(b[:n]), err
	case '*':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return nil, err
		}
		list := make([]any, n)
		for i := range list {
			list[i], err = s.read()
			var said respError
			if errors.As(err, &said) {
				list[i], err = said, nil
			}
			if err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return nil, fmt.Errorf("a reply that begins with %q", line[0])
}

// verdict says what an error of a command means: nothing was done, nobody knows, or it is the command's own answer.
func verdict(err error) error {
	var said respError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &said): // the connection broke
		return errUnknown
	case strings.HasPrefix(string(said), "TRYAGAIN"), strings.Contains(string(said), "before it was begun"):
		return fmt.Errorf("%w: %s", errNotDone, said)
	case strings.HasPrefix(string(said), "UNKNOWN"):
		return errUnknown
	}
	return said
}

// request makes a request over HTTP. Its error is errUnknown, errNotDone or nil.
func request(client *http.Client, method, url, key, body string, headers ...string) (status int, header http.Header, text string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, nil, "", err
	}
	r.Header.Set("Authorization", "Bearer "+key)
	if strings.HasPrefix(body, "{") {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := client.Do(r)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return 0, nil, "", fmt.Errorf("%w: no connection", errNotDone)
		}
		return 0, nil, "", errUnknown
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, nil, "", errUnknown
	}
	switch answer.StatusCode {
	case http.StatusServiceUnavailable, http.StatusRequestTimeout:
		var problem struct{ Code, Detail string }
		_ = json.Unmarshal(b, &problem) // what it says is shown as far as it can be read
		return answer.StatusCode, nil, string(b), fmt.Errorf("%w: %d %s: %s", errNotDone, answer.StatusCode, problem.Code, problem.Detail)
	case http.StatusGatewayTimeout:
		return answer.StatusCode, nil, string(b), errUnknown
	}
	return answer.StatusCode, answer.Header, string(b), nil
}
