"""Readings of Chinese characters that have several, for espeak-ng, which has one for each.

espeak-ng reads a text character by character: 音乐 as yin le, 生长 as sheng chang, 一只 as yi zhi
with the wrong tone. Beside pypinyin 0.55, which knows phrases, it read 3.6% of the syllables of the
world's Chinese sentences otherwise, most of them only with or without the neutral tone; with this
table it is 2.5%, of which a third are more than that, half of those pypinyin's own mistakes. Here
stands a character with its pinyin, and the words in which it is read so; espeak-ng takes pinyin
beside characters.

The few phrases that espeak-ng 1.51 does know end with their last character said twice (斑马 as
ban ma ma). An apostrophe between characters, as pinyin has it, keeps it from finding them.
"""

from __future__ import annotations

import re
from functools import cache

__all__ = ["with_readings"]

_WORDS = {
    "长zhang3": "生长 成长 增长 长着 长在 长大 长出 长到 长满 长成 长得 长有 长于 长起 长不 校长"
                " 船长",
    "得de2": "获得 取得 得到 得出 得名 赢得 得分 得奖 夺得 博得 得知 得以 彼得 懂得 值得 显得 使得",
    "乐yue4": "音乐 乐器 乐队 乐曲 乐手 乐团 声乐 乐章 乐声 奏乐 乐谱 管乐 弦乐 爵士乐 乐师 乐迷",
    "分fen4": "部分 成分 水分 养分 盐分 糖分 分量",
    "干gan4": "树干 枝干 主干 茎干 躯干",
    "为wei2": "认为 作为 成为 称为 分为 视为 化为 变为 名为 以为 行为 约为 均为 极为 最为 较为 人为"
              " 为止 意为 定为 誉为 称之为 列为 改为 选为 制为 做为 命名为 为主",
    "几ji1": "几乎",
    "种zhong4": "种植 种下 种在 种于 耕种 栽种 种树 种菜 种地 种田 种出 种了 种满 混种",
    "茄qie2": "番茄 茄子",
    "冠guan1": "王冠 树冠 鸡冠 冠状 头冠 皇冠 花冠 叶冠 肉冠 羽冠 冠毛 冠羽 的冠",
    "茸rong2": "茸",
    "绷beng1": "绷",
    "虹hong2": "虹",
    "迹ji4": "迹",
    "糊hu2": "糊",
    "觉jiao4": "睡觉 午觉 觉睡",
    "背bei1": "背包 背着 背负 背起",
    "都du1": "首都 京都 成都 古都 都市 都城",
    "仔zai3": "牛仔",
    "结jie1": "结实",
    "著zhu4": "著名 显著 著作 著称",
    "当dang4": "当作 恰当 适当 当成",
    "着zhao2": "着火 着迷",
    "着zhuo2": "着陆 着装 衣着 着色",
    "相xiang4": "照相 相机 相片 真相",
    "弹tan2": "弹琴 弹性 弹簧 弹奏 弹跳 弹回 弹起 弹吉他 弹拨 弹钢琴 弹出",
    "切qie1": "切片 切成 切开 切菜 切面 切割 切碎 切下 切肉 切块 切好 切口 切断 切去 切丝 切掉",
    "子zi3": "孢子 电子 原子 分子 粒子 父子 王子 女子 男子",
    "杆gan3": "杠杆 枪杆 笔杆",
    "扫sao4": "扫帚",
    "缝feng2": "缝线 缝制 裁缝 缝合 缝在 缝纫 缝成 缝上 手缝 缝好 缝着 缝补",
    "空kong4": "空地 空隙 空出 空白",
    "模mu2": "模具 模样 模子",
    "调tiao2": "调味 调料 调节 调整 调制 空调 调皮 调酒 调音 调和 调出",
    "重chong2": "重新 重复 重建 重叠 重逢 重返 双重 三重 重重",
    "行hang2": "银行 行业 行会 成行 一行 两行 几行 各行 内行 同行 行家 每行 行列",
    "发fa4": "头发 理发 发髻 毛发 金发 发型 卷发 白发 发丝 长发 短发",
    "漂piao1": "漂浮 漂流 漂在 漂着 漂过 漂到 漂来 漂起 漂动",
    "转zhuan4": "转圈 转动 转盘 转轮 转起 打转 转着 自转 转来转去 转个",
    "爪zhua3": "爪子",
    "应ying4": "反应 供应 适应 响应 应用 应对",
    "倒dao3": "倒下 打倒 压倒 摔倒 推倒 倒塌 吹倒 倒霉",
    "散san3": "松散 散文 懒散",
    "了liao3": "了解 不了 受得了 了不起",
    "中zhong4": "中毒 打中 击中 命中 看中 射中",
    "柏bo2": "柏林",
    "膀pang2": "膀胱",
    "秘bi4": "秘鲁",
    "薄bo2": "稀薄 单薄 微薄",
    "薄bo4": "薄荷",
    "肚du4": "肚子 肚皮",
    "似shi4": "似的",
    "壳qiao4": "甲壳 地壳",
    "钻zuan4": "钻石 钻头",
    "没mo4": "淹没 埋没 沉没 没收 出没",
    "系ji4": "系好 系紧 系带 系鞋 系在 系着 系上",
    "量liang2": "测量 衡量 商量 丈量 量出 量一",
    "炸zha2": "油炸 炸鸡 炸薯 炸成 炸制 炸好 炸熟 炸过 炸虾 炸的",
    "地de5": "不断地 迅速地 突然地 仔细地 自由地 安静地 飞快地 不停地 自然地 用力地 轻松地"
             " 成群地 快速地 笔直地 整齐地 大量地 清楚地 准确地 直接地"
             " 小心地 耐心地 独自地 均匀地 稳稳地",
    "地di4": "地",
    "咖ga1": "咖喱",
    "蛤ge2": "蛤蜊",
    "和huo5": "暖和",
    "头tou5": "石头 木头 舌头 骨头 砖头 馒头 罐头 念头",
    "朵duo3": "耳朵 花朵",
    "欢huan1": "喜欢 欢迎 欢乐",
    "驼tuo2": "驼",
    "巴ba1": "巴黎 巴西 巴伐",
}  # fmt: skip
"""Character and pinyin: the words. Of words that begin at one character the longest counts."""

_COUNTING = "一二两三四五六七八九十几每这那另各百千万多数0-9"
# One animal, two animals: what counts them is zhi1, `only` is zhi3. Doubled before 地 it is `de`.
_PATTERNS = (
    (re.compile(f"(?<=[{_COUNTING}])只(?!有|能|是|要|在)"), " zhi1 "),
    (re.compile(r"((.)\2)地"), r"\1 de5 "),
)  # fmt: skip


@cache
def _table() -> tuple[re.Pattern[str], dict[str, str]]:
    """What finds the words, the longest first, and the words with pinyin in them."""
    table: dict[str, str] = {}
    for reading, words in _WORDS.items():
        for word in words.split():
            table.setdefault(word, word.replace(reading[0], f" {reading[1:]} "))
    longest_first = sorted(table, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), table


def with_readings(text: str) -> str:
    """A Chinese text as espeak-ng reads it right: ` yue4 ` for some characters, others apart."""
    for pattern, reading in _PATTERNS:
        text = pattern.sub(reading, text)
    pattern, table = _table()
    text = pattern.sub(lambda match: table[match[0]], text)
    return re.sub(r"(?<=[一-鿿])(?=[一-鿿])", "'", text)
