-- Tell what lies at a key, and change nothing: nor is the session prolonged.
-- KEYS  1 record
-- ARGV  1 what to tell of the fields: sizes, values, or nothing; 2 nonce
-- Returns {nonce, kind, left}: the kind as in record.lua, and for how many ms it still
--   lies, as PTTL says. Of what is alive then {version, created in ms, size, its own ttl
--   in ms or 0, now in ms, number of fields, {field, size or value, ...}, owner or ''}, META
--   among the fields; of what was moved its key now.
local record = KEYS[1]
local kind, meta = look_at(record)
local left = redis.call('PTTL', record)
if kind == 'moved' then return {ARGV[2], kind, left, meta.key} end
if kind ~= 'alive' then return {ARGV[2], kind, left} end

local fields = {}
if ARGV[1] == 'values' then
  fields = redis.call('HGETALL', record)
elseif ARGV[1] == 'sizes' then
  for _, name in ipairs(redis.call('HKEYS', record)) do
    table.insert(fields, name)
    table.insert(fields, redis.call('HSTRLEN', record, name))
  end
end
return {ARGV[2], kind, left, meta.version, meta.created, meta.size, meta.ttl or 0,
  now_ms(), redis.call('HLEN', record) - 1, fields, meta.owner or ''}
