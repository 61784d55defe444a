-- Replaces the tree of one cell and cuts off the part of the tail that is in it now.
-- KEYS: cells, nodes
-- ARGV: generation, epoch, which fill, the time before which the tree may have forgotten events, key,
--       folds before, length of the folded tail, header and tree of the new root, number of removed
--       nodes, their fields, then pairs of field and value of changed nodes
-- Reply: {OK}; {DONE} if this fold is in already; {LOST}; {FENCED, epoch}; {CHANGED}.
local witness = redis.call('HGET', KEYS[1], '')
if not witness or #witness ~= 50 or string.sub(witness, 1, 17) ~= '\2' .. ARGV[1] then
  return {'LOST'}
end
local function less(a, b)
  local a1, a2 = struct.unpack('>I4I4', a)
  local b1, b2 = struct.unpack('>I4I4', b)
  return a1 < b1 or (a1 == b1 and a2 < b2)
end
local epoch = string.sub(witness, 18, 25)
-- An older epoch is a state from before this writer: nothing of it is to be folded.
if epoch ~= ARGV[2] then
  if less(ARGV[2], epoch) then return {'FENCED', epoch} end
  return {'CHANGED'}
end
-- The shard was filled anew, or came back from before it was told to forget.
if string.sub(witness, 35, 38) ~= ARGV[3] or less(string.sub(witness, 43), ARGV[4]) then
  return {'CHANGED'}
end
local root = redis.call('HGET', KEYS[1], ARGV[5])
if not root then return {'CHANGED'} end
local length = struct.unpack('>I4', string.sub(root, 2, 5))
local folds = '\0\0\0\0'
if length > 0 then folds = string.sub(root, 6, 9) end
if folds ~= ARGV[6] then
  if folds == string.sub(ARGV[8], 6, 9) then return {'DONE'} end
  return {'CHANGED'}
end
local folded = tonumber(ARGV[7])
if #root - 5 - length < folded then return {'CHANGED'} end
redis.call('HSET', KEYS[1], ARGV[5], ARGV[8] .. string.sub(root, 6 + length + folded))
local removed = tonumber(ARGV[9])
local step = 1000
for first = 10, 9 + removed, step do
  redis.call('HDEL', KEYS[2], unpack(ARGV, first, math.min(first + step - 1, 9 + removed)))
end
for first = 10 + removed, #ARGV, 2 * step do
  redis.call('HSET', KEYS[2], unpack(ARGV, first, math.min(first + 2 * step - 1, #ARGV)))
end
return {'OK'}
