-- What every script of the store begins with: what lies at a key, and how long it may.
-- Returns nothing: these are functions.

local function count(text)
  return text and #text < 16 and string.match(text, '^%d+$') and tonumber(text)
end

-- Returns a kind: alive, absent, destroyed, moved or foreign (not ours, or damaged: it is
--   left as it is), and of a record that is alive what it holds beside its fields, of one
--   that is moved its key now, and until when (ms) the old one may be read.
local function look_at(key)
  local held = redis.call('TYPE', key).ok
  if held == 'none' then return 'absent' end
  if held == 'string' then
    local mark = redis.call('GET', key)
    if mark == 'destroyed' then return mark end
    local till, to = string.match(mark, '^moved (%d+) (.+)$')
    if not to then return 'foreign' end
    return 'moved', {key = to, till = tonumber(till)}
  end
  if held ~= 'hash' then return 'foreign' end
  local meta = redis.call('HMGET', key,
    '@incarnation', '@commits', '@version', '@created', '@size', '@ttl')
  for i = 3, 5 do
    meta[i] = count(meta[i])
  end
  local ttl = meta[6] and count(meta[6])
  if not (meta[1] and meta[2] and meta[3] and meta[4] and meta[5])
    or (meta[6] and not ttl) then
    return 'foreign'
  end
  return 'alive', {incarnation = meta[1], commits = meta[2], version = meta[3],
    created = meta[4], size = meta[5], ttl = ttl}
end

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Returns for how many ms a record may still lie: its ttl, within its max_lifetime.
local function left_for(ttl, created, max_lifetime)
  if max_lifetime == 0 then return ttl end
  return math.min(ttl, created + max_lifetime - now_ms())
end
